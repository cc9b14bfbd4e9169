"""Exported folders: what stock diffusers and older tools need, which legs, and nothing lost on the way.

Networks here have random weights: nothing is known of what they draw.
"""

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from safetensors.torch import load_file

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.folder import model_hash
from ldm_pipeline.judge import Recogniser
from tests import tiny_runs
from training import export
from training.__main__ import main
from training.export import export_judge, export_pipeline, leg_facts, unet_samples
from training.parts import LEGS, keep_parts
from training.recipes import SMOKE
from training.recogniser import build_recogniser

CALL: dict[str, Any] = {
    "prompt": ["Paris on a rainy day", "two dogs at night"],
    "negative_prompt": ["umbrella", ""],
    "num_inference_steps": 4,
    "guidance_scale": 4.0,
    "height": 64,
    "width": 64,
    "output_type": "np",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder; read only."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_runs.write_runs(folder)
    return folder


@pytest.fixture(scope="module")
def exported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline folder of those runs; read only."""
    return export_pipeline(SMOKE, runs, out=tmp_path_factory.mktemp("out") / "pipe", notes=["on one core"])


def drawn(pipe: Any) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    return pipe(**CALL, generator=[torch.Generator("cpu").manual_seed(seed) for seed in (7, 8)]).images


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.filterwarnings("ignore:.*safety checker.*")
def test_stock_diffusers_opens_the_folder_and_draws_the_same_pictures_as_ours(exported: Path):
    theirs = drawn(StableDiffusionPipeline.from_pretrained(exported))
    ours = drawn(LatentDiffusionPipeline.from_pretrained(exported))
    assert theirs.shape == (2, 64, 64, 3) and theirs.std() > 0.01
    assert not np.array_equal(theirs[0], theirs[1])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_other_predictions_draw_alike_in_stock_diffusers_too(runs: Path, tmp_path: Path, prediction: Any):
    copied = Path(shutil.copytree(runs, tmp_path / "runs"))
    (copied / "smoke" / "unet").rename(copied / "smoke" / f"unet-{prediction}")
    recipe = replace(SMOKE, unet=replace(SMOKE.unet, prediction=prediction))
    folder = export_pipeline(recipe, copied, out=tmp_path / "pipe")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == {"epsilon": "epsilon", "v": "v_prediction"}[prediction]
    theirs = drawn(StableDiffusionPipeline.from_pretrained(folder))
    ours = drawn(LatentDiffusionPipeline.from_pretrained(folder))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_folder_names_stock_classes_only(exported: Path):
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["scheduler"] == ["diffusers", "DPMSolverMultistepScheduler"]
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    for absent in ("safety_checker", "feature_extractor", "image_encoder"):
        assert index[absent] == [None, None]


def test_the_folder_holds_what_older_tools_read(exported: Path):
    keys = load_file(exported / "text_encoder" / "model.safetensors").keys()
    assert keys and all(key.startswith("text_model.") for key in keys)
    vocabulary = json.loads((exported / "tokenizer" / "vocab.json").read_text())
    merges = (exported / "tokenizer" / "merges.txt").read_text().splitlines()
    assert merges[0].startswith("#version") and len(vocabulary) == 512 + len(merges) - 1 + 2
    assert "paris" in (exported / "tokenizer" / "known_words.txt").read_text().split()


def test_all_weights_are_half_precision(exported: Path):
    for part in ("unet", "vae", "text_encoder"):
        for file in (exported / part).glob("*.safetensors"):
            assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}, file.name


def test_the_averaged_weights_are_exported_not_the_raw_ones(exported: Path):
    unet = load_file(exported / "unet" / "diffusion_pytorch_model.safetensors")
    assert float(unet["conv_in.weight"].abs().sum()) > 0, "the raw weights of these runs are zeros"


def test_the_recipes_sampling_becomes_the_folders_default(exported: Path):
    defaults = LatentDiffusionPipeline.from_pretrained(exported).generation_defaults
    assert defaults == replace(SMOKE.sampling, height=64, width=64)


@pytest.mark.filterwarnings("ignore:.*safety checker.*")
def test_weights_are_split_into_shards_that_open_again(
    runs: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export, "LARGEST_SHARD", "100KB")
    folder = export_pipeline(SMOKE, runs, out=tmp_path / "pipe")
    for part in ("unet", "text_encoder"):
        assert len(list((folder / part).glob("*-of-*.safetensors"))) > 1
        assert len(list((folder / part).glob("*.safetensors.index.json"))) == 1
    whole = LatentDiffusionPipeline.from_pretrained(exported)
    ours, theirs = (cls.from_pretrained(folder) for cls in (LatentDiffusionPipeline, StableDiffusionPipeline))
    assert np.array_equal(drawn(ours), drawn(whole))
    np.testing.assert_allclose(drawn(ours), drawn(theirs), atol=1e-4)


def test_a_shard_is_never_larger_than_a_committed_file_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from training.networks import UNetShape, build_unet

    unet = build_unet(UNetShape(), latent_channels=8, text_width=192).half()
    unet.save_pretrained(tmp_path, max_shard_size=export.LARGEST_SHARD)
    sizes = [file.stat().st_size for file in tmp_path.glob("*.safetensors")]
    assert len(sizes) > 1 and max(sizes) <= 15_000_000


def test_a_leg_tells_steps_hours_scores_and_samples_from_the_logs(exported: Path):
    legs = json.loads((exported / LEGS).read_text())
    assert len(legs) == 1
    leg = legs[0]
    assert leg["recipe"] == "smoke" and leg["notes"] == ["on one core"]
    assert list(leg["parts"]) == ["recogniser", "vae", "clip", "unet"]
    assert leg["unet_samples"] == 40 * 16
    assert leg["parts"]["clip"]["steps"] == 30 and leg["parts"]["unet"]["steps"] == 40
    assert leg["parts"]["unet"]["hours"] == 0.05, "six lines, 36 seconds apart"
    assert leg["curve"] == [[20, 320, 0.25, 0.3], [40, 640, 0.125, 0.15]]


def test_gaps_between_sessions_are_no_training_hours(runs: Path, tmp_path: Path):
    folder = Path(shutil.copytree(runs / "smoke", tmp_path / "smoke"))
    log = folder / "unet" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[3:]:
        line["time"] += 86_400
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    leg = leg_facts(SMOKE, folder, step=40, warm=False)
    assert leg["parts"]["unet"]["hours"] == 0.04


def test_pictures_of_half_size_count_as_samples():
    recipe = replace(SMOKE, unet=replace(SMOKE.unet, half_size_steps=10, half_size_batch=100))
    assert unet_samples(recipe, 4) == 400
    assert unet_samples(recipe, 12) == 10 * 100 + 2 * 16


def test_a_warm_leg_is_listed_after_those_that_it_started_from(exported: Path, tmp_path: Path):
    runs = tmp_path / "runs"
    tiny_runs.write_log(runs / "smoke" / "unet", steps=20)
    keep_parts(
        runs / "smoke" / "unet" / "parts",
        vae=exported / "vae",
        text_encoder=exported / "text_encoder",
        tokenizer=exported / "tokenizer",
        legs=exported / LEGS,
    )
    tiny_runs.write_unet_checkpoint(runs / "smoke" / "unet", seed=9, step=20)
    recipe = replace(SMOKE, scene_seed=101, unet=replace(SMOKE.unet, half_size_steps=10))
    second = export_pipeline(recipe, runs, out=tmp_path / "second", notes=["warm"])
    first_leg, second_leg = json.loads((second / LEGS).read_text())
    assert first_leg == json.loads((exported / LEGS).read_text())[0]
    assert list(second_leg["parts"]) == ["unet"]
    assert second_leg["unet_samples"] == 20 * 16, "a warm leg sees no pictures of half size"
    assert second_leg["settings"] == ["scene_seed=101", "unet.half_size_steps=10"]
    card = (second / "README.md").read_text()
    assert "### Leg 1" in card and "### Leg 2" in card and "warm" in card
    parts = [model_hash(folder) for folder in (exported, second)]
    assert parts[0] != parts[1], "another UNet"
    for part in ("vae", "text_encoder", "tokenizer"):
        assert contents(second / part) == contents(exported / part), part


def test_a_second_export_takes_the_place_of_the_first(runs: Path, exported: Path, tmp_path: Path):
    out = Path(shutil.copytree(exported, tmp_path / "pipe"))
    (out / "report.md").write_text("of other weights")
    export_pipeline(SMOKE, runs, out=out, notes=["on one core"])
    assert contents(out) == contents(exported)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_that_holds_something_else_is_refused_and_kept(runs: Path, tmp_path: Path):
    out = tmp_path / "letters"
    out.mkdir()
    (out / "aunt.txt").write_text("Dear aunt")
    with pytest.raises(FileExistsError, match="--out .*letters: holds something else than a pipeline folder"):
        export_pipeline(SMOKE, runs, out=out)
    assert contents(out) == {"aunt.txt": b"Dear aunt"}


def test_a_failure_while_writing_keeps_the_old_folder_whole(
    runs: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = Path(shutil.copytree(exported, tmp_path / "pipe"))
    with pytest.raises(TypeError, match="not JSON serializable"):
        export_pipeline(SMOKE, runs, out=out, notes=[b"no text"])  # type: ignore[list-item]
    assert contents(out) == contents(exported)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow over 100 kB; Python ignores the signal, so that writing raises."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_keeps_the_old_folder_whole(
    runs: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = Path(shutil.copytree(exported, tmp_path / "pipe"))
    with full_disk():
        code = main(["export", "--recipe", "smoke", "--runs", str(runs), "--out", str(out)])
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and told.startswith("error: ")
    assert "pipe could not be written" in told and "free some disk space" in told
    assert contents(out) == contents(exported)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"], "the half-written folder is cleared away"


def test_a_part_that_is_not_trained_yet_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run `python -m training unet` with this recipe first"):
        export_pipeline(SMOKE, tmp_path, out=tmp_path / "pipe")
    assert list(tmp_path.iterdir()) == []


def saved_judge(runs: Path) -> Recogniser:
    judge = build_recogniser(SMOKE.judge).eval()
    judge.save(runs / "smoke" / "judge" / "final")
    return judge


def test_the_judge_is_copied_in_half_precision(tmp_path: Path):
    judge = saved_judge(tmp_path)
    folder = export_judge(SMOKE, tmp_path, out=tmp_path / "judge")
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float16}
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    read, expected = Recogniser.load(folder).read(pictures), judge.read(pictures)
    torch.testing.assert_close(read.confidence, expected.confidence, atol=1e-2, rtol=0)


def test_a_judge_takes_the_place_of_another_judge_but_of_nothing_else(tmp_path: Path):
    judge, out = saved_judge(tmp_path), tmp_path / "judge"
    export_judge(SMOKE, tmp_path, out=out)
    (out / "model.safetensors").write_bytes(b"old")
    export_judge(SMOKE, tmp_path, out=out)
    assert Recogniser.load(out).config == judge.config
    (letters := tmp_path / "letters").mkdir()
    (letters / "aunt.txt").write_text("Dear aunt")
    with pytest.raises(FileExistsError, match="--judge-out .*letters: holds something else than a judge"):
        export_judge(SMOKE, tmp_path, out=letters)
    assert contents(letters) == {"aunt.txt": b"Dear aunt"}
