"""A study of a tiny model from its settings to its report; interrupted, it ends with the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_pipeline.compare import begin_study, compare, draw_study, model_opener
from ldm_pipeline.picture_files import read_recipe
from ldm_pipeline.study import Study, pair, sweep
from tests import tiny


class Brightness:
    """A judge that asks whether the mean level reaches the question's number."""

    def facts(self):
        return {"judge": "brightness"}

    def check(self, question):
        if not question.isdigit():
            raise ValueError(f"ask={question!r} is no number")

    def asks(self, pictures, question):
        return [float(np.asarray(picture).mean()) >= int(question) for picture in pictures]


def study_of(**changes) -> Study:
    whole = {
        "prompts": ["red car"], "seeds": range(3), "base": {"num_inference_steps": 2},
        "change": {"negative_prompt": "umbrella"}, "sham": "dog", "ask": "127", **changes,
    }  # fmt: skip
    return pair(**whole)


def pictures_of(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "pictures").rglob("*.*"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def pipe():
    return tiny.make_pipeline()


def test_a_study_writes_its_report_and_pictures_with_their_recipes(pipe, tmp_path: Path):
    states = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()  # pyright: ignore
    report = compare(study_of(), tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pictures", "report.json", "report.md", "sheet.webp", "study.json",
    ]  # fmt: skip
    assert len(pictures_of(tmp_path)) == 9
    plain = json.loads((tmp_path / "report.json").read_text())
    assert [arm["settings"].get("negative_prompt") for arm in plain["arms"]] == [None, "umbrella", "dog"]
    assert [arm["request"]["num_inference_steps"] for arm in plain["arms"]] == [2, 2, 2]
    assert (plain["device"], plain["dtype"], plain["judge"]) == ("cpu", "float32", {"judge": "brightness"})
    recipe = read_recipe(tmp_path / "pictures" / "B" / "seed-2.png")
    assert (recipe.prompt, recipe.negative_prompt, recipe.seed) == ("red car", "umbrella", 2)
    assert "# Paired study" in (tmp_path / "report.md").read_text()
    levels = [np.asarray(pipe("red car", seed=s, num_inference_steps=2).images[0]).mean() for s in range(3)]
    assert report.shares["A"].right == sum(level >= 127 for level in levels)
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1] == np.random.get_state()[1].tobytes()  # pyright: ignore


def test_both_arms_are_plain_calls_with_the_same_seed(pipe, tmp_path: Path):
    folder = begin_study(study_of(), tmp_path, pipeline=pipe)
    draw_study(folder, open_model=model_opener(folder, pipe), progress=False)
    for key, negative in (("A", None), ("B", "umbrella"), ("sham", "dog")):
        own = pipe("red car", negative_prompt=negative, seed=1, num_inference_steps=2).images[0]
        assert Image.open(tmp_path / "pictures" / key / "seed-1.png").tobytes() == own.tobytes()


def test_what_was_interrupted_ends_with_the_same_bytes_and_draws_nothing_twice(pipe, tmp_path: Path):
    whole = begin_study(study_of(), tmp_path / "whole", pipeline=pipe)
    assert draw_study(whole, open_model=model_opener(whole, pipe), progress=False) == 9

    calls = []

    def stop_at_the_fifth(pipeline, step, timestep, tensors):
        raise KeyboardInterrupt

    class Stopping(type(pipe)):
        """Interrupted within its fifth call, as by a key."""

        def __call__(self, *words, **named):
            calls.append(named["seed"])
            if len(calls) == 5:
                named["callback_on_step_end"] = stop_at_the_fifth
            return super().__call__(*words, **named)

    pipe.__class__, own = Stopping, pipe.__class__
    scheduler = pipe.scheduler
    parted = begin_study(study_of(), tmp_path / "parted", pipeline=pipe)
    with pytest.raises(KeyboardInterrupt):
        draw_study(parted, open_model=model_opener(parted, pipe), progress=False)
    assert pipe.scheduler is scheduler
    assert list(pictures_of(parted.path)) == [
        "pictures/A/seed-0.png", "pictures/A/seed-1.png", "pictures/B/seed-0.png", "pictures/sham/seed-0.png",
    ]  # fmt: skip
    assert not list(parted.path.glob(".unfinished*"))
    pipe.__class__ = own
    again = begin_study(study_of(), tmp_path / "parted", pipeline=pipe)
    assert draw_study(again, open_model=model_opener(again, pipe), progress=False) == 5
    assert pictures_of(tmp_path / "parted") == pictures_of(tmp_path / "whole")
    assert draw_study(again, open_model=model_opener(again, pipe), progress=False) == 0


def test_more_seeds_are_added_to_what_is_there_and_the_look_is_told(pipe, tmp_path: Path):
    compare(study_of(seeds=range(2)), tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    few = pictures_of(tmp_path)
    report = compare(study_of(), tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    assert {name: data for name, data in pictures_of(tmp_path).items() if name in few} == few
    assert report.shares["A"].asked == 3 and "This is look 2" in (tmp_path / "report.md").read_text()


def test_another_studys_folder_is_refused_and_left_as_it_is(pipe, tmp_path: Path):
    compare(study_of(seeds=[0]), tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(ValueError, match="holds another study"):
        other = study_of(seeds=[0], base={"num_inference_steps": 3})
        compare(other, tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_bad_question_is_refused_before_anything_is_drawn(pipe, tmp_path: Path):
    with pytest.raises(ValueError, match="is no number"):
        compare(study_of(also=["bright"]), tmp_path / "new", judge=Brightness(), pipeline=pipe)
    with pytest.raises(ValueError, match="is nothing that the judge reads"):
        compare(study_of(ask="umbrela"), tmp_path / "new", pipeline=pipe)
    assert not (tmp_path / "new").exists()


def test_a_sweep_of_schedulers_leaves_the_pipeline_its_own(pipe, tmp_path: Path):
    own = pipe.scheduler
    study = sweep(
        ["red car"],
        seeds=[0, 1],
        vary={"scheduler": ("", "unipc")},
        base={"num_inference_steps": 2},
        ask="99",
    )
    compare(study, tmp_path, judge=Brightness(), pipeline=pipe, progress=False)
    assert pipe.scheduler is own
    names = [read_recipe(tmp_path / "pictures" / key / "seed-1.png").scheduler for key in ("x1", "x2")]
    assert names == ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"]


def test_models_loras_and_starting_pictures_can_be_the_difference(pipe, saved_folder: Path, tmp_path: Path):
    lora = tiny.write_lora(tmp_path / "lora")
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64), "navy").save(start)
    base = {"num_inference_steps": 2, "model": str(saved_folder), "image": str(start)}
    for change in ({"lora": str(lora)}, {"model": None}, {"strength": 1.0}, {"prompt": "{} on the night"}):
        study = pair(["red car"], seeds=[0], base=base, change=change, ask="99")
        out = tmp_path / f"study of {next(iter(change))}"
        compare(study, out, judge=Brightness(), pipeline=pipe, progress=False)
        a, b = (out / "pictures" / key / "seed-0.png" for key in "AB")
        assert Image.open(a).tobytes() != Image.open(b).tobytes()
        assert len(read_recipe(b).hashes_of("image")[0]) == 64
        assert str(tmp_path) not in (out / "report.json").read_text() + (out / "study.json").read_text()
    assert read_recipe(tmp_path / "study of lora" / "pictures" / "B" / "seed-0.png").loras[0].hash


def test_the_bundled_recogniser_reads_what_else_changed(pipe, tmp_path: Path):
    study = study_of(seeds=[0, 1], ask="umbrella")
    report = compare(study, tmp_path, pipeline=pipe, progress=False)
    one = report.comparison("B")
    assert set(one.confirmed) == {"named things", "their colors"} and {"city", "weather"} <= set(one.kept)
    assert report.facts["judge"]["judge"] == "recogniser"


@pytest.mark.parametrize("given", [{"device": "cpu"}, {"dtype": "float32"}])
def test_a_pipeline_has_its_own_device_and_number_type(pipe, tmp_path: Path, given):
    with pytest.raises(ValueError, match="belong to the pipeline"):
        begin_study(study_of(), tmp_path, pipeline=pipe, **given)
    with pytest.raises(ValueError, match="dtype='float33' is unknown"):
        begin_study(study_of(), tmp_path, dtype="float33")


def test_a_pipeline_made_of_parts_is_known_by_its_weights(tmp_path: Path):
    study = pair(
        ["red car"], seeds=[0], base={"num_inference_steps": 1}, change={"guidance_scale": 2.0}, ask="99"
    )
    first, same, other = (tiny.make_pipeline() for _ in range(3))
    other.unet.conv_out.bias.data += 0.5
    begin_study(study, tmp_path / "study", pipeline=first)
    begin_study(study, tmp_path / "study", pipeline=same)
    with pytest.raises(ValueError, match=r"holds another study \(other arms\): choose another folder"):
        begin_study(study, tmp_path / "study", pipeline=other)
