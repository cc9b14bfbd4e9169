"""A study's folder goes on with its own study, refuses any other, and reads back what it was."""

import json
from pathlib import Path

import pytest

from ldm_pipeline import folder
from ldm_pipeline.study import Study, pair
from ldm_pipeline.study_folder import (
    FILE,
    StudyFolder,
    default_folder,
    open_folder,
    read_folder,
    study_facts,
    weights_hash,
)


def made(**changes) -> Study:
    whole = {"prompts": ["red car"], "seeds": range(3), "change": {"guidance_scale": 2}, "ask": "car"}
    return pair(**{**whole, **changes})  # pyright: ignore[reportArgumentType]


def opened(path: Path, study: Study, *, device: str = "cpu", dtype: str = "float32") -> StudyFolder:
    return open_folder(path, study, study_facts(study, device=device, dtype=dtype))


def test_it_comes_back_as_it_was_written(tmp_path: Path):
    folder = opened(tmp_path / "new" / "study", made(also=["tree"]))
    again = read_folder(tmp_path / "new" / "study")
    assert again == folder
    assert (again.missing(), len(again.identity)) == (6, 64)


def test_more_seeds_or_another_question_are_the_same_study(tmp_path: Path):
    first = opened(tmp_path, made())
    assert opened(tmp_path, made(seeds=range(9), ask="tree")).identity == first.identity
    assert len(read_folder(tmp_path).study.seeds) == 9


def test_a_bundled_lora_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "quick" / folder.LORA_FILE
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setattr(folder, "MODELS", tmp_path)
    facts = [
        study_facts(made(change={"lora": lora}), device="cpu", dtype="float32", own_model_hash="0")
        for lora in ("quick", str(file))
    ]
    assert facts[0] == facts[1], "the file is what counts"
    with pytest.raises(ValueError, match="lora='slow' is not a file"):
        study_facts(made(change={"lora": "slow"}), device="cpu", dtype="float32", own_model_hash="0")


@pytest.mark.parametrize(
    ("changes", "place", "differs"),
    [
        ({"change": {"guidance_scale": 3}}, {}, "arms"),
        ({"base": {"num_inference_steps": 3}}, {}, "arms"),
        ({"prompts": ["red car", "cat"]}, {}, "prompts"),
        ({}, {"dtype": "bfloat16"}, "dtype"),
        ({}, {"device": "cuda"}, "device"),
    ],
)
def test_the_folder_of_another_study_is_refused_in_one_line(tmp_path: Path, changes, place, differs):
    opened(tmp_path, made())
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError, match=rf"holds another study \(other {differs}\)") as error:
        opened(tmp_path, made(**changes), **place)
    assert "\n" not in str(error.value)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_folder_with_other_things_in_it_and_a_file_are_refused(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not empty and holds no study"):
        opened(tmp_path, made())
    with pytest.raises(ValueError, match="is a file"):
        opened(tmp_path / "letter.txt", made())


def test_files_count_by_content_and_stand_without_their_places(tmp_path: Path):
    picture = tmp_path / "start.png"
    picture.write_bytes(b"one")
    study = made(base={"image": str(picture)}, change={"strength": 0.5})
    opened(tmp_path / "study", study)
    written = (tmp_path / "study" / FILE).read_text()
    assert "start.png" in written and str(tmp_path) not in written
    picture.write_bytes(b"two")
    with pytest.raises(ValueError, match="other arms"):
        opened(tmp_path / "study", study)
    picture.unlink()
    with pytest.raises(ValueError, match="is not a file"):
        opened(tmp_path / "study", study)


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path):
    opened(tmp_path, made())
    (tmp_path / ".unfinished-a").mkdir()
    (tmp_path / ".unfinished-a" / "half.png").write_bytes(b"x")
    (tmp_path / ".unfinished-b").write_bytes(b"x")
    opened(tmp_path, made())
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_other_library_versions_are_warned_of(tmp_path: Path):
    opened(tmp_path, made())
    plain = json.loads((tmp_path / FILE).read_text())
    plain["versions"]["torch"] = "1.0"
    (tmp_path / FILE).write_text(json.dumps(plain))
    with pytest.warns(UserWarning, match="other versions of the libraries"):
        assert opened(tmp_path, made()).versions["torch"] == "1.0"


def test_each_look_is_written_down_once(tmp_path: Path):
    folder = opened(tmp_path, made()).with_look(judge="people")
    folder = folder.with_look(judge="people")
    more = opened(tmp_path, made(seeds=range(5))).with_look(judge="people")
    assert [look["cases"] for look in more.looks] == [3, 5]
    assert read_folder(tmp_path).looks == more.looks


def test_pictures_have_places_that_follow_from_their_case(tmp_path: Path):
    one, two = opened(tmp_path / "a", made()), opened(tmp_path / "b", made(prompts=["car", "cat"]))
    places = [str(f.picture(f.study.arms[1], f.study.cases[-1]).relative_to(f.path)) for f in (one, two)]
    assert places == ["pictures/B/seed-2.png", "pictures/B/prompt-2-seed-2.png"]
    facts = study_facts(one.study, device="cpu", dtype="float32")
    assert str(default_folder(one.study, facts)) == f"studies/red-car-{one.identity[:8]}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: {**plain, "schema": "ldm_study/9"},
        lambda plain: {**plain, "seeds": ["a"]},
        lambda plain: {**plain, "arms": [{**arm, "key": "../x"} for arm in plain["arms"]]},
        lambda plain: {**plain, "arms": 3},
        lambda plain: {name: value for name, value in plain.items() if name != "ask"},
        lambda plain: [],
    ],
)
def test_a_damaged_description_is_refused_in_one_line(tmp_path: Path, damage):
    opened(tmp_path, made())
    plain = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(damage(plain)))
    with pytest.raises(ValueError, match="cannot be read") as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_study_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no study.json"):
        read_folder(tmp_path)


def test_models_are_known_by_their_weights(saved_folder: Path, tmp_path: Path):
    assert weights_hash(None) == weights_hash("postcards") != weights_hash(saved_folder)
    assert weights_hash("someone/model") == "someone/model"
    with pytest.raises(ValueError, match="is no pipeline folder"):
        weights_hash(tmp_path)
    with pytest.raises(ValueError, match="there is no bundled model"):
        weights_hash("postcard")


def test_a_text_file_is_replaced_whole(tmp_path: Path):
    folder = opened(tmp_path, made())
    folder.write("report.md", "one")
    folder.write("report.md", "two")
    assert (tmp_path / "report.md").read_text() == "two"
