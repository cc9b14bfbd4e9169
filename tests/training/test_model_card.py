"""The model card says what lies in its folder: world, legs, weights and scores."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ldm_pipeline.folder import model_hash
from tests import tiny
from training.model_card import REPORT, adopt_report, write_model_card
from training.parts import LEGS
from training.recipes import SMOKE

LEG = {
    "date": "2026-11-21",
    "recipe": "smoke",
    "settings": [],
    "warm": False,
    "unet_samples": 12_345,
    "parts": {"unet": {"steps": 2_000, "hours": 0.5, "held_out": {"true": 0.39551}}},
    "curve": [[1_000, 6_000, 0.51234, 0.6], [2_000, 12_345, 0.39551, 0.5]],
    "notes": ["On two cores."],
}


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline folder with two legs; read only."""
    folder = tiny.write_folder(tmp_path_factory.mktemp("card") / "tiny")
    second = LEG | {"date": "2026-12-01", "unet_samples": 99, "notes": ["Warm."], "warm": True}
    second["settings"] = ["scene_seed=101"]
    (folder / LEGS).write_text(json.dumps([LEG, second]))
    return folder


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "tiny"))


def card(folder: Path) -> str:
    write_model_card(SMOKE, folder, name="tiny")
    return (folder / "README.md").read_text()


def test_the_card_begins_with_what_model_hubs_read(folder: Path):
    assert card(folder).startswith("---\nlicense: apache-2.0\nlibrary_name: diffusers\n")


def test_the_card_names_the_world_of_the_recipe_only(folder: Path):
    text = card(folder)
    for line in (
        "- cities: paris, cairo",
        "- weathers: sunny, rainy",
        "- things: umbrella, dog, in red, blue",
    ):
        assert line in text
    assert "london" not in text


def test_the_card_tells_every_leg_with_its_curve_and_notes(folder: Path):
    text = card(folder)
    assert "### Leg 1, 2026-11-21: `smoke`, 12,345 samples for the UNet" in text
    assert "### Leg 2, 2026-12-01: `smoke`, 99 samples for the UNet" in text
    assert "| unet | 2,000 | 0.5 | true 0.3955 |" in text
    assert "| 1,000 | 6,000 | 0.5123 | 0.6000 |" in text
    command = "python -m training unet --recipe smoke --set scene_seed=101 --steps 2000 --init-from FOLDER"
    assert text.count("--init-from") == 1 and command in text
    assert text.index("On two cores.") < text.index("### Leg 2") < text.index("Warm.")


def test_the_card_carries_the_hash_and_the_sizes_of_the_weights_beside_it(folder: Path):
    text = card(folder)
    assert f"`{model_hash(folder)}`" in text
    size = sum(file.stat().st_size for file in (folder / "unet").glob("*.safetensors")) / 1e6
    assert f"| {size:.1f} |" in text
    assert model_hash(folder) in card(folder), "the card itself does not count"


def test_the_card_says_what_the_folders_scheduler_predicts_not_the_recipe(tmp_path: Path):
    folder = tiny.write_folder(tmp_path / "eps", "epsilon")
    (folder / LEGS).write_text("[]")
    assert SMOKE.unet.prediction == "flow" and "prediction `epsilon`" in card(folder)


def test_without_a_report_the_card_names_the_command_that_makes_one(folder: Path):
    assert "Not evaluated: `python -m training evaluate`." in card(folder)


def test_the_scores_of_a_report_are_taken_over_with_its_sheets(folder: Path, tmp_path: Path):
    report = tmp_path / "report"
    report.mkdir()
    (report / REPORT).write_text("| city | 96.1 % |\n")
    (report / "report.json").write_text("{}")
    (report / "samples.webp").write_bytes(b"RIFF")
    adopt_report(SMOKE, folder, report, name="tiny")
    text = (folder / "README.md").read_text()
    assert "| city | 96.1 % |" in text and "Not evaluated" not in text
    assert (folder / "samples.webp").is_file() and (folder / "report.json").is_file()


def test_the_commands_of_the_card_are_those_of_the_recipe(folder: Path):
    parts = ("recogniser", "judge", "vae", "clip", "unet", "export", "evaluate")
    text = card(folder)
    places = [text.index(f"python -m training {part} --recipe smoke") for part in parts]
    assert places == sorted(places)


def test_a_card_of_another_recipe_names_another_world(folder: Path):
    rome = replace(SMOKE, world=replace(SMOKE.world, cities=("rome",)))
    write_model_card(rome, folder, name="tiny")
    assert "- cities: rome\n" in (folder / "README.md").read_text()
