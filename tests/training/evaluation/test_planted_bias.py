"""The real thing at smoke scale: networks trained on a world with a planted skew, and what an audit tells.

Buses are red in 90 % of the pictures of Rome, and in 25 % of those of Cairo, as all colors of all else are.
The judge learned from a world without the skew. Run it with `pytest -m slow -s` and this file's name.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from training.__main__ import main

PLANTED = "world.skews=rome/bus/red/0.9"
PARTS = ("recogniser", "judge", "vae", "clip", "unet")
STEPS = {"recogniser": 600, "judge": 2_000, "vae": 2_000, "clip": 800, "unet": 5_000}
PICTURES, PROMPTS = 4_096, 64
SMALL = {
    "cities": "rome,cairo",
    "weathers": "sunny",
    "times": "day",
    "kinds": "bus,dog",
    "colors": "red,green,blue,yellow",
    "group_weights": "0,1,0",
}
SHAPES = (
    "recogniser.widths=16,32,48",
    "judge.widths=16,32,64",
    "judge.merged=32",
    "vae.shape.channels=16,32,32,32",
    "vae.fit.batch_size=16",
    "clip.fit.batch_size=64",
    "judge.fit.batch_size=32",
    "unet.shape.channels=64,128",
    "unet.fit.batch_size=64",
    "unet.fit.average_decay=0.995",
    # Without guidance a model draws as its data are; guidance itself amplifies.
    "sampling.guidance_scale=1.0",
)


def settings(steps: dict[str, int], pictures: int) -> list[str]:
    """`--set` words of the recipe, the same for every part, but for the skew."""
    changes = [
        f"{world}.{name}={value}" for world in ("world", "judged_world") for name, value in SMALL.items()
    ]
    changes += [f"pictures={pictures}", f"judged_pictures={pictures}", *SHAPES]
    for part, count in steps.items():
        changes += [f"{part}.fit.total_steps={count}", f"{part}.fit.save_every_steps={max(1, count // 2)}"]
    return [word for change in changes for word in ("--set", change)]


def run(part: str, *words: str | Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert main([part, *map(str, words)]) == 0
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def trained(root: Path, *, steps: dict[str, int], pictures: int) -> list[str | Path]:
    """Train all parts and export them to `root/model`; gives the words that every part was told."""
    told: list[str | Path] = ["--recipe", "smoke", "--runs", root / "runs", *settings(steps, pictures)]
    for part in PARTS:
        run(part, *told, "--set", PLANTED)
    run("export", *told, "--set", PLANTED, "--out", root / "model")
    return told


def audited(root: Path, name: str, told: Sequence[str | Path], *words: str) -> dict[str, Any]:
    run("audit", root / "model", *told, "--out", root / name, *words)
    return json.loads((root / name / "audit.json").read_text())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_audit_of_trained_networks_recovers_the_planted_skew(tmp_path: Path):
    told = trained(tmp_path, steps=STEPS, pictures=PICTURES)
    cells = ("--cell", "rome/bus/red", "--cell", "rome/dog/red", "--prompts", str(PROMPTS))
    fair = audited(tmp_path, "against_fair_data", told, *cells)
    own = audited(tmp_path, "against_its_data", [*told, "--set", PLANTED], *cells)
    print(*((tmp_path / name / "audit.md").read_text() for name in ("against_fair_data", "against_its_data")))

    rates, own_rates = ({rate["name"]: rate for rate in found["rates"]} for found in (fair, own))
    bus = rates["bus red in rome"]
    assert bus["sensitivity"]["rate"] > 0.9 and bus["specificity"]["rate"] > 0.9, (
        "the judge cannot read colors"
    )
    # What is planted is the share in the data; a network may draw it more often, which the audit should tell.
    skewed = own_rates["bus red in rome"]
    for reading in ("records", "judged"):
        interval = skewed[reading]["interval"]
        assert interval["low"] <= 0.9 <= interval["high"], f"the planted share is not recovered: {reading}"
    assert bus["amplification"]["interval"]["low"] > 0.3, "the skew is not seen against fair data"
    assert abs(skewed["amplification"]["points"]) < 0.15, "the skew of its data is taken for the model's own"

    makes = {one["name"]: one["model"] for one in fair["dependences"]}
    assert makes["bus red in rome"]["interval"]["low"] > 0.3, "the city makes no difference for buses"
    assert abs(makes["dog red in rome"]["points"]) < 0.25, "a skew is seen where none was planted"
