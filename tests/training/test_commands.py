"""`python -m training` from the outside: errors in one line, dry runs, what each part leaves."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors import SafetensorError
from safetensors.torch import load_file

from ldm_pipeline import bundled_folder
from training import commands, evaluate_command
from training.__main__ import build_parser, main
from training.checkpoint import load_latest
from training.options import accelerator_of
from training.recipes import SMOKE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers' DPM-Solver under numpy 2, which previews use."""


def training(*arguments: str | Path) -> int:
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return main([str(argument) for argument in arguments])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vae", "--recipe", "smok"], "--recipe smok: unknown; choose from smoke, postcards64"),
        (["vae", "--recipe", "smoke", "--steps", "0"], "--steps 0: must be at least 1"),
        (["vae", "--recipe", "smoke"], "run `python -m training recogniser`"),
        (["unet", "--recipe", "smoke"], "run `python -m training vae`"),
        (["unet", "--recipe", "smoke", "--set", "unet.fit.batch=3"], "the nearest is 'unet.fit.batch_size'"),
        (["unet", "--recipe", "smoke", "--set", "name=my"], "--set name=my: a recipe keeps its name"),
        (["scenes", "--recipe", "smoke", "--set", "size=100"], "size=100: choose a multiple of 8 from 64"),
        (["scenes", "--recipe", "smoke", "--set", "scene_seed=3"], "streams 2 to 99 are for judging only"),
        (["judge", "--recipe", "smoke", "--init-from", "nowhere"], "nowhere: no config.json of a recogniser"),
        (["vae", "--recipe", "smoke", "--init-from", "nowhere"], "nowhere: no vae/config.json there"),
        (["text", "--recipe", "smoke", "--init-from", "nowhere"], "nowhere: no model_index.json there"),
        (["unet", "--recipe", "smoke", "--text-from", "nowhere"], "for warm legs; give --init-from too"),
        (
            [
                "unet",
                "--recipe",
                "smoke",
                "--init-from",
                bundled_folder("postcards"),
                "--text-from",
                "nowhere",
            ],
            "--text-from nowhere: no run's result there; name RUNS/RECIPE/text/final",
        ),
        (["unet", "--recipe", "smoke", "--vae-from", "nowhere"], "for warm legs; give --init-from too"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    assert training(*arguments, "--runs", tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_warm_leg_takes_its_text_encoder_from_a_run_of_its_own(smoke_runs: Path, tmp_path: Path):
    """From nothing to a pipeline, then a text run and a leg of the UNet with it, and the card tells both."""
    runs, first, second = copied(smoke_runs, tmp_path), tmp_path / "first", tmp_path / "second"
    words = ["--recipe", "smoke", "--runs", runs]
    assert training("unet", *words, "--steps", "1") == 0
    assert training("export", *words, "--out", first) == 0
    shutil.rmtree(runs / "smoke" / "unet")
    assert training("text", *words, "--steps", "2", "--init-from", first) == 0
    learned = runs / "smoke" / "text" / "final"
    warm = [*words, "--set", "unet.text_share=0.1"]
    assert training("unet", *warm, "--steps", "1", "--init-from", first, "--text-from", learned) == 0
    assert training("export", *warm, "--out", second) == 0
    kept = load_file(runs / "smoke" / "unet" / "parts" / "text_encoder" / "model.safetensors")
    wanted, before = (load_file(f / "model.safetensors") for f in (learned, first / "text_encoder"))
    assert all(torch.equal(kept[name], value) for name, value in wanted.items())
    assert any(not torch.equal(wanted[name], value.float()) for name, value in before.items())
    card = (second / "README.md").read_text()
    assert "python -m training text --recipe smoke --set unet.text_share=0.1 --steps 2 --init-from" in card
    assert "--text-from runs/smoke/text/final" in card and "| text | 2 |" in card


def test_a_warm_leg_takes_its_vae_from_a_run_of_its_own_and_grows_with_it(smoke_runs: Path, tmp_path: Path):
    """A pipeline of four latent channels, a VAE run that adds one, and a leg of the UNet in these latents."""
    runs, first, second = copied(smoke_runs, tmp_path), tmp_path / "first", tmp_path / "second"
    words = ["--recipe", "smoke", "--runs", runs]
    assert training("unet", *words, "--steps", "1") == 0
    assert training("export", *words, "--out", first) == 0
    for run in ("unet", "vae"):
        shutil.rmtree(runs / "smoke" / run)
    more = [*words, "--set", "vae.shape.latent_channels=5", "--set", "vae.anchor_weight=1"]
    assert training("vae", *more, "--steps", "2", "--init-from", first) == 0
    learned = runs / "smoke" / "vae" / "final"
    assert training("unet", *more, "--steps", "1", "--init-from", first, "--vae-from", learned) == 0
    assert training("export", *more, "--out", second) == 0
    configs = [json.loads((second / part / "config.json").read_text()) for part in ("vae", "unet")]
    assert (configs[0]["latent_channels"], configs[1]["in_channels"], configs[1]["out_channels"]) == (5, 5, 5)
    card = (second / "README.md").read_text()
    assert "--vae-from runs/smoke/vae/final" in card and "| vae | 2 |" in card and "f8, 5 channels" in card
    assert "python -m training vae --recipe smoke --set vae.shape.latent_channels=5" in card


def test_the_judge_is_the_one_named_or_trained_or_the_bundled_one(tmp_path: Path):
    def chosen(*words: str) -> Path:
        given = ["evaluate", "model", "--recipe", "smoke", "--runs", str(tmp_path), *words]
        return evaluate_command.chosen_judge(build_parser().parse_args(given))

    assert chosen("--judge", "other") == Path("other")
    assert chosen() == bundled_folder("judge")
    trained = tmp_path / "smoke" / "judge" / "final"
    trained.mkdir(parents=True)
    assert chosen() == trained and chosen("--judge", "other") == Path("other")


def test_the_second_judge_is_the_one_named_or_trained_or_bundled_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate_command, "MODELS", tmp_path / "models")

    def chosen(*words: str) -> Path | None:
        given = ["evaluate", "model", "--recipe", "smoke", "--runs", str(tmp_path), *words]
        return evaluate_command.chosen_second_judge(build_parser().parse_args(given))

    assert chosen() is None and chosen("--second-judge", "other") == Path("other")
    bundled, trained = tmp_path / "models" / "second_judge", tmp_path / "smoke" / "second_judge" / "final"
    bundled.mkdir(parents=True)
    assert chosen() == bundled
    trained.mkdir(parents=True)
    assert chosen() == trained and chosen("--no-second-judge") is None


def test_the_training_pictures_are_those_of_every_leg(tmp_path: Path):
    legs = [
        {"recipe": "smoke", "settings": []},
        {"recipe": "smoke", "settings": ["scene_seed=101", "pictures=64", "unet.was_once_called=7"]},
        {"recipe": "smoke", "settings": ["scene_seed=101", "pictures=64"]},
    ]
    plain = [(1, SMOKE.pictures)]
    assert [(one.seed, one.count) for one in evaluate_command.training_sets(tmp_path, SMOKE)] == plain
    (tmp_path / "training_legs.json").write_text(json.dumps(legs))
    sets = evaluate_command.training_sets(tmp_path, SMOKE)
    assert [(one.seed, one.count) for one in sets] == [*plain, (101, 64)]
    assert {(one.size, one.world) for one in sets} == {(SMOKE.size, SMOKE.world)}


@pytest.mark.parametrize("part", ["recogniser", "judge", "second_judge", "vae", "clip", "unet"])
def test_a_dry_run_tells_what_it_would_take_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
):
    assert training(part, "--recipe", "smoke", "--dry-run", "--runs", tmp_path) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert told[part].endswith("M parameters") and "for activations" in told["memory"]
    assert int(told["samples"].split()[0].replace(",", "")) >= 300
    assert float(told["hours"].split()[1]) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_the_text_encoder_tells_what_of_it_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base = str(bundled_folder("postcards"))
    assert training("text", "--recipe", "smoke", "--dry-run", "--init-from", base, "--runs", tmp_path) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "M learn" in told["text"] and told["samples"].startswith("204,800 in 1,600 steps")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vae", "--bogus"], "unrecognized arguments: --bogus"),
        ([], "the following arguments are required: PART"),
        (["vae", "--precision", "fp8"], "argument --precision: invalid choice: 'fp8'"),
        (["vae", "--step", "3"], "unrecognized arguments: --step 3"),
        (["text"], "the following arguments are required: --init-from"),
    ],
)
def test_words_that_no_part_understands_are_one_line_and_exit_code_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1 and words in lines[0]


@pytest.mark.parametrize(
    "error, words",
    [
        (SafetensorError("Error while deserializing header"), "error: Error while deserializing header"),
        (BrokenProcessPool("A process ended\nabruptly"), "error: A process ended abruptly"),
        (torch.OutOfMemoryError("CUDA out of memory"), "error: CUDA out of memory"),
        (MemoryError(), "error: MemoryError"),
    ],
)
def test_what_a_machine_refuses_is_one_line_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
):
    def broken(options: object) -> None:
        raise error

    monkeypatch.setitem(commands.COMMANDS, "vae", broken)
    assert main(["vae"]) == 2
    assert capsys.readouterr().err == f"{words}\n"


def test_a_recipe_is_adjusted_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    settings = ["--set", "clip.fit.batch_size=7", "--set", "clip.fit.total_steps=3"]
    assert training("clip", "--recipe", "smoke", "--dry-run", *settings, "--runs", tmp_path) == 0
    assert "samples: 21 in 3 steps of 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, launcher, taken",
    [(None, None, "bf16"), (None, "no", "no"), ("bf16", "no", "bf16"), (None, "fp16", None)],
)
def test_the_precision_is_the_given_one_or_the_launcher_s_or_bf16(
    monkeypatch: pytest.MonkeyPatch, given: str | None, launcher: str | None, taken: str | None
):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launcher:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    AcceleratorState._reset_state(reset_partial_state=True)
    options = argparse.Namespace(precision=given)
    if taken is None:
        with pytest.raises(ValueError, match="mixed precision fp16: .* choose --precision bf16 or no"):
            accelerator_of(options)
    else:
        assert accelerator_of(options).mixed_precision == taken
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    "engine, words",
    [("DEEPSPEED", "DeepSpeed: .*use FSDP2"), ("FSDP", "FSDP on a CPU: .*unconnected copies")],
)
def test_engines_that_cannot_run_here_are_refused(monkeypatch: pytest.MonkeyPatch, engine: str, words: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(ValueError, match=words) as refused:
        accelerator_of(argparse.Namespace(precision="no", part="finetune"))
    assert "\n" not in str(refused.value)


def test_sharded_weights_are_for_fine_tuning_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP: unet looks at whole networks"):
        accelerator_of(argparse.Namespace(precision="no", part="unet"))


def test_ctrl_c_names_the_command_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt("saved at step 6")

    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setitem(commands.COMMANDS, "vae", interrupted)
    assert main(["vae", "--recipe", "smoke", "--runs", "my runs"]) == 130
    told = capsys.readouterr().err.strip()
    assert told == (
        "stopped: saved at step 6; go on with: python -m training vae --recipe smoke --runs 'my runs'"
    )


def test_a_part_leaves_its_log_and_its_result(smoke_runs: Path):
    vae = smoke_runs / "smoke" / "vae"
    lines = [json.loads(line) for line in (vae / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 1 and lines[-1]["held_out/psnr"] > 0
    assert (vae / "final" / "config.json").is_file() and not (vae / "final.partial").exists()
    assert [path.name for path in (vae / "previews").iterdir()] == ["reconstructions-0000001.png"]


def test_a_run_folder_of_another_recipe_is_refused_and_kept(
    smoke_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = copied(smoke_runs, tmp_path)
    facts = next((runs / "smoke" / "recogniser" / "checkpoints").iterdir())
    shutil.rmtree(runs / "smoke" / "vae" / "checkpoints")
    shutil.copytree(facts, runs / "smoke" / "vae" / "checkpoints" / facts.name)
    assert training("vae", "--recipe", "smoke", "--steps", "2", "--runs", runs) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ") and "made by another recipe" in told
    assert load_latest(runs / "smoke" / "vae") is not None


def copied(runs: Path, folder: Path) -> Path:
    """The runs folder with hard links to its data and caches: what is there is never written to."""
    return Path(shutil.copytree(runs, folder / "runs", copy_function=os.link))


@pytest.mark.slow
def test_accelerate_launches_two_processes_that_train_alike(smoke_runs: Path, tmp_path: Path):
    runs = copied(smoke_runs, tmp_path)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    part = ["-m", "training", "unet", "--recipe", "smoke", "--steps", "4", "--precision", "no"]
    subprocess.run([*launch, *part, "--runs", str(runs)], cwd=ROOT, check=True, timeout=600)
    alone = copied(smoke_runs, tmp_path / "alone")
    assert training(*part[2:], "--runs", alone) == 0
    first, second = (
        load_file(next((r / "smoke" / "unet" / "checkpoints").iterdir()) / "tensors.safetensors")
        for r in (runs, alone)
    )
    for name, value in second.items():
        if name.startswith("model."):
            torch.testing.assert_close(first[name], value, atol=2e-3, rtol=0)
