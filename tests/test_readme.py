"""README's code runs, and its set-up is two commands.

The shell blocks themselves are run by `.ci/run`, in a fresh environment.
"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert match, f"README.md has no section {title!r}"
    return match[1]


def test_the_set_up_is_exactly_two_commands():
    commands = [
        line for block in blocks("sh", section("Set up")) for line in block.splitlines() if line.strip()
    ]
    assert len(commands) == 2
    assert commands[0].startswith("pip install ") and "&& ldm generate " in commands[0]
    assert commands[1].startswith("pip install ") and commands[1].endswith("&& pytest")
    assert len(re.findall(r"```", section("Set up"))) == 4


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[-1][:40])
def test_readme_code_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<README.md>", "exec"), {"__name__": "__main__"})


def test_readme_names_files_and_flags_that_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README.md points at {target}"
    from ldm_pipeline.cli import parser

    help_text = parser()._subparsers._group_actions[0].choices["generate"].format_help()  # pyright: ignore
    for command in [line for block in blocks("sh") for line in block.splitlines() if "ldm generate" in line]:
        for flag in re.findall(r"(?<= )--?[a-z-]+", command.split("ldm generate")[1]):
            assert flag in help_text, f"ldm generate has no {flag}"


def training_commands() -> list[str]:
    """What stands after `python -m training` or `accelerate launch ... -m training` in every README."""
    found = []
    for path in sorted(ROOT.rglob("README.md")):
        if any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            continue
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        lines = [line for block in blocks("sh", text) for line in block.splitlines()]
        spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
        inline = [" ".join(span.split()) for span in spans if " --" in span]  # others name a part in passing
        for line in lines + inline:
            match = re.match(r"(?:python|accelerate launch\b.*?) -m training (.+)", line.strip())
            if match and "..." not in match[1]:
                found.append(match[1])
    return found


@pytest.mark.parametrize("words", list(dict.fromkeys(training_commands())))
def test_every_training_command_in_a_readme_is_understood(words: str):
    from training.__main__ import build_parser
    from training.finetune_recipes import FINETUNES
    from training.recipes import RECIPES

    options = build_parser().parse_args(shlex.split(words, comments=True))
    if options.part != "data":  # it needs no recipe
        assert options.recipe in (FINETUNES if options.part == "finetune" else RECIPES)


def test_the_readmes_show_how_every_part_is_trained():
    parts = {words.split()[0] for words in training_commands()}
    assert parts >= {"recogniser", "vae", "clip", "unet", "export"}


def test_the_ci_script_reads_the_set_up_commands_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (program,) = re.findall(r"< <\((awk '.*?' README\.md)\)", script, flags=re.DOTALL)
    found = subprocess.run(
        ["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert found.splitlines() == [block.strip() for block in blocks("sh", section("Set up"))]
