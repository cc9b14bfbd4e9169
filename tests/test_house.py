"""The house rules: who may import whom, how long a file may be, what stands at the top level.

It reads source text only and does not know what any of it computes.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ldm_pipeline", "training")

# A room is a module or a sub-package; it imports rooms on lower floors only. `__init__` is the front door.
FLOORS = {
    "ldm_pipeline": {
        14: ["__main__"],
        13: ["cli"],
        12: ["cli_reproduce", "cli_compare"],
        11: ["cli_generate", "reproduce", "compare"],
        10: ["replay"],
        9: ["loading", "saving", "convert"],
        8: ["pipeline", "blind_labels", "study_page"],
        7: ["call_record", "study_sheets"],
        6: ["drawn", "foreign", "study_folder", "study_report"],
        5: ["stages", "picture_files", "table_cells"],
        4: ["arguments", "components", "parameters", "statistics"],
        3: [
            "adapters",
            "single_file",
            "denoise",
            "latents",
            "recipe",
            "ip_adapter",
            "guiders",
            "regions",
            "step_cache",
            "study",
            "judges",
            "clip_judge",
        ],
        2: ["request", "text", "weights"],
        1: ["tokens", "noise", "images", "guidance", "schedulers", "folder", "judge", "turns", "calls"]
        + ["network", "devices", "attention", "unet_loading", "xmp", "terminal"],
        0: ["prompt_rows", "prompt_syntax", "containers", "recipe_parts"],
    },
    "training": {
        10: ["__main__"],
        9: ["commands", "finetune_command", "few_steps_command", "evaluate_command"],
        8: ["export", "options", "finetune_export", "evaluation"],
        7: ["model_card", "finetune_scores", "finetune_recipes"],
        6: ["recipes", "estimate", "finetune", "class_pictures"],
        5: ["recogniser", "vae", "clip", "text_record", "unet", "few_steps", "watch"] + ["finetune_batches"],
        4: ["data", "loop"],
        3: ["loss_scale"],
        2: ["claims", "clip_objective", "parts", "bases", "processes"],
        1: [
            "networks",
            "growth",
            "tokenizer",
            "text_tower",
            "targets",
            "optim",
            "checkpoint",
            "lora",
            "new_words",
        ]
        + ["allocator", "attention"]
        + ["logbook", "draws", "pictures", "folders", "scenes", "settings"],
    },
}
FLOOR_OF = {
    package: {room: floor for floor, rooms in floors.items() for room in rooms}
    for package, floors in FLOORS.items()
}

TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "ldm_pipeline", "training", "tests", "examples",
}  # fmt: skip
# Modules without a test file of their own, and what tests them instead.
TESTED_ELSEWHERE = {
    "training/scenes/*.py": "parts of a scene: test_render, test_scene and test_caption draw and tell all",
    "training/evaluation/answers.py": "test_report",
    "training/evaluation/checks.py": "test_report",
    "training/evaluation/results.py": "test_report",
    "training/evaluation/audit_report.py": "test_audit",
    "training/evaluation/task_scores.py": "test_report",
    "training/estimate.py": "test_commands, as --dry-run",
    "training/options.py": "test_commands",
    "training/evaluate_command.py": "test_commands",
    "ldm_pipeline/cli_generate.py": "test_cli, and test_cli_reproduce for --from",
    "training/class_pictures.py": "test_finetune_command, as dreambooth",
    "training/finetune_export.py": "test_finetune_command",
    "training/few_steps_command.py": "test_few_steps",
    "training/finetune_recipes.py": "test_finetune and test_finetune_command",
}
# Tests of what several modules do together.
OF_NO_MODULE = {
    "main", "resume", "parity", "parity_features", "inpainting_parity", "global_state",
    "finetune_resume", "finetune_processes", "planted_bias",
}  # fmt: skip
LONGEST_FILE_LINES = 400
LONGEST_EXAMPLE_LINES = 39
LONGER_EXAMPLES = {"07_lora.py": 59}  # it trains
# What an example is about may be named in it; the others need the front door alone.
LIBRARIES_OF_EXAMPLES = {"07_lora.py": {"torch", "peft"}, "10_guiders.py": {"diffusers"}}
NAMES_THAT_SAY_NOTHING = {"utils", "common", "misc", "helpers", "base"}


def project_files() -> list[Path]:
    """What git tracks or would add; without git, all but what `.gitignore` leaves out at the top."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        ignored = {line.strip("/") for line in lines if line.startswith("/")} | {".git"}
        files = [path for path in sorted(ROOT.rglob("*")) if path.is_file()]
        return [path for path in files if path.relative_to(ROOT).parts[0] not in ignored]
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


FILES = project_files()
MODULES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PACKAGES]
EXAMPLES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "examples"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_and_room(path: Path) -> tuple[str, str]:
    package, room = path.relative_to(ROOT).with_suffix("").parts[:2]
    return package, room


def imported_names(path: Path) -> list[str]:
    """Every dotted name that a file imports, also inside functions; relative imports made absolute."""
    here = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else ()
            source = ".".join([*start, *([node.module] if node.module else [])])
            names += [f"{source}.{alias.name}" for alias in node.names]
    return names


def house_rooms(path: Path) -> list[tuple[str, str]]:
    """The (package, room) pairs of this project that a file imports; room is "" for the package itself."""
    rooms = []
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        if package in PACKAGES:
            room = rest.split(".")[0]
            known = room in FLOOR_OF[package] or (ROOT / package / f"{room}.py").exists()
            rooms.append((package, room if known else ""))
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_rooms_on_lower_floors(path: Path):
    package, room = package_and_room(path)
    if room == "__init__":
        return
    assert room in FLOOR_OF[package], f"{package}/{room} stands on no floor: add it to FLOORS"
    for other_package, other in house_rooms(path):
        if other_package != package:
            assert package == "training", (
                f"{name_of(path)} imports {other_package}; only training may import the other"
            )
            continue
        assert other, f"{name_of(path)} imports through its own front door: name the room"
        inside = other == room and (ROOT / package / room).is_dir()
        below = other in FLOOR_OF[package] and FLOOR_OF[package][other] < FLOOR_OF[package][room]
        assert inside or below, f"{name_of(path)} imports {package}.{other}, which is not downstairs"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_on_a_floor_exists(package: str):
    there = {package_and_room(path)[1] for path in MODULES if package_and_room(path)[0] == package}
    assert set(FLOOR_OF[package]) <= there, "take the rooms that are gone off their floors"


def test_the_import_reader_sees_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "training" / "scenes" / "scene.py"
    room.parent.mkdir(parents=True)
    room.write_text(
        "import a.b\nfrom . import world\nfrom .. import loop\ndef f():\n    from ..data import cache\n"
    )
    assert imported_names(room) == ["a.b", "training.scenes.world", "training.loop", "training.data.cache"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_does_and_is_not_too_long(path: Path):
    text = path.read_text(encoding="utf-8")
    first_line = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    assert len(first_line.split()) >= 3, "the first line is no sentence that says what the file does"
    assert len(text.splitlines()) <= LONGEST_FILE_LINES
    assert path.stem not in NAMES_THAT_SAY_NOTHING, "name the file after what flows through it"


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_short_and_uses_the_front_door(path: Path):
    import ldm_pipeline

    longest = LONGER_EXAMPLES.get(path.name, LONGEST_EXAMPLE_LINES)
    allowed = {"PIL", "ldm_pipeline", *LIBRARIES_OF_EXAMPLES.get(path.name, set())}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "says nothing about itself"
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        assert package in allowed or package in sys.stdlib_module_names, name
        assert package != "ldm_pipeline" or rest in ldm_pipeline.__all__, f"{name} is not at the front door"


def test_the_front_door_is_small():
    import ldm_pipeline

    assert 0 < len(ldm_pipeline.__all__) <= 10
    assert all(hasattr(ldm_pipeline, name) for name in ldm_pipeline.__all__)


def test_only_the_agreed_entries_stand_at_the_top_level():
    entries = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL
    assert all((ROOT / entry).exists() for entry in TOP_LEVEL)


@pytest.mark.parametrize("folder", ["ldm_pipeline", "training", "tests", "examples"])
def test_every_package_explains_itself(folder: str):
    assert (ROOT / folder / "README.md").is_file()


@pytest.mark.parametrize("folder", ["ldm_pipeline", "training"])
def test_every_mirrored_test_has_its_module(folder: str):
    for path in (ROOT / "tests" / folder).rglob("test_*.py"):
        room = ROOT / path.relative_to(ROOT / "tests").with_name(path.name.removeprefix("test_"))
        exists = room.exists() or room.with_suffix("").is_dir()
        assert exists or room.stem in OF_NO_MODULE, (
            f"{name_of(path)} tests {name_of(room)}, which does not exist"
        )


def untested() -> list[Path]:
    """Modules, but for the doors, without a test file named after them."""
    tests = {path.relative_to(ROOT / "tests") for path in FILES if path.is_relative_to(ROOT / "tests")}
    places = {path: path.relative_to(ROOT).with_name(f"test_{path.name}") for path in MODULES}
    return [
        path
        for path, place in places.items()
        if path.stem not in ("__init__", "__main__") and place not in tests
    ]


def test_every_module_has_its_mirrored_test_or_says_what_tests_it():
    for path in untested():
        known = any(path.relative_to(ROOT).match(pattern) for pattern in TESTED_ELSEWHERE)
        assert known, f"{name_of(path)} has no test file of its own"


@pytest.mark.parametrize("pattern", TESTED_ELSEWHERE)
def test_what_is_tested_elsewhere_is_there_and_has_no_test_of_its_own(pattern: str):
    found = any(path.relative_to(ROOT).match(pattern) for path in untested())
    assert found, f"take {pattern} off TESTED_ELSEWHERE"


def test_the_scenes_need_numpy_and_pillow_only():
    for path in MODULES:
        if path.relative_to(ROOT).parts[:2] != ("training", "scenes"):
            continue
        packages = {name.split(".")[0] for name in imported_names(path)}
        assert packages <= {"numpy", "PIL", "training"} | sys.stdlib_module_names, name_of(path)


def test_no_file_names_a_place_on_one_machine_or_a_package_index():
    places = re.compile(r"/(?:root|home|Users)/\w|/tmp/\w|(?:index[-_]url|find[-_]links)[ =]")
    texts = {".py", ".md", ".toml", ".json", ".jsonl", ".txt", ".cfg", ".yml", ".yaml", ""}
    for path in FILES:
        if path.suffix not in texts or path.stat().st_size > 4_000_000:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = places.search(text)
        assert found is None, f"{name_of(path)} names {found.group(0)!r}" if found else ""
        assert str(ROOT) + "/" not in text, f"{name_of(path)} names the folder of this checkout"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["generate", "--help"], ["inspect", "--help"], ["compare", "--help"]],
    ids=" ".join,
)
def test_help_imports_neither_torch_nor_diffusers(arguments: list[str]):
    code = (
        "import sys\nfrom ldm_pipeline.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage: ldm" in result.stdout
