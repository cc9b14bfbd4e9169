"""The recogniser learns to read postcards, and its scores are counted right."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from training.claims import FIELD_INDEX, FIELDS, NOT_CLAIMED, PRESENT
from training.data.postcards import Postcards
from training.recipes import SMOKE
from training.recogniser import (
    RecogniserObjective,
    all_codes,
    build_recogniser,
    field_accuracy,
    group_accuracy,
    small_codes,
    train,
    trained_recogniser,
)

RUN = replace(SMOKE.recogniser, fit=replace(SMOKE.recogniser.fit, total_steps=30))


def test_it_learns_and_its_averaged_weights_come_back(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    losses = [p.losses["loss"] for p in train(RUN, postcards, run_folder=tmp_path, accelerator=accelerator)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    network = trained_recogniser(RUN, tmp_path)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    initial = build_recogniser(RUN)
    assert not torch.equal(network.hidden.weight, initial.hidden.weight)


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_stream_alone():
    before = torch.random.get_rng_state()
    first, again, other = (build_recogniser(replace(RUN, seed=seed)).hidden.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fields_that_the_picture_does_not_tell_cost_nothing():
    objective = RecogniserObjective(build_recogniser(RUN))
    pictures = torch.zeros(2, 3, 64, 64)
    codes = torch.full((2, len(FIELDS)), NOT_CLAIMED)
    assert objective({"pictures": pictures, "codes": codes})["loss"].item() == 0
    codes[0, 0] = 3
    logits = objective.recogniser(pictures)[0][0]
    loss = objective({"pictures": pictures, "codes": codes})["loss"]
    torch.testing.assert_close(loss, -logits.log_softmax(0)[3])


def test_every_kind_of_question_counts_alike_however_few_pictures_tell_it():
    objective = RecogniserObjective(build_recogniser(RUN))
    pictures = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    codes = torch.full((3, len(FIELDS)), NOT_CLAIMED)
    codes[:, FIELD_INDEX["city"]] = 1
    city = objective({"pictures": pictures, "codes": codes})["loss"]
    codes[0, FIELD_INDEX["dog.scarf.color"]] = 2
    both = objective({"pictures": pictures, "codes": codes})["loss"]
    logits = objective.recogniser(pictures)[FIELD_INDEX["dog.scarf.color"]]
    scarf = -logits.log_softmax(1)[0, 2]
    torch.testing.assert_close(both, (city + scarf) / 2)


def test_parts_are_told_from_the_merged_map_of_runs_that_ask_for_them(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    run = replace(SMOKE.judge, fit=replace(SMOKE.judge.fit, total_steps=30))
    progresses = list(train(run, postcards, run_folder=tmp_path, accelerator=accelerator))
    first, last = progresses[0].losses, progresses[-1].losses
    assert first["loss"] == pytest.approx(first["read"] + run.part_weight * first["parts"], rel=1e-5)
    assert last["parts"] < 0.8 * first["parts"]
    assert trained_recogniser(run, tmp_path).config.merged == run.merged
    with pytest.raises(ValueError, match="part_weight=0.5: needs a merged map"):
        replace(run, merged=0)


def test_small_things_are_those_below_the_median_and_asked_for_presence_and_color_only(postcards: Postcards):
    small, codes = small_codes(postcards), all_codes(postcards)
    asked = small != NOT_CLAIMED
    assert torch.equal(small[asked], codes[asked])
    names = {FIELDS[i][0] for i in asked.any(dim=0).nonzero()[:, 0].tolist()}
    assert names == {"dog.present", "dog.color", "umbrella.present", "umbrella.color"}
    present = FIELD_INDEX["dog.present"]
    dogs = [scene.things[0].height for scene, _ in postcards if {t.kind for t in scene.things} == {"dog"}]
    heights = {
        told: [
            max(t.height for t in scene.things)
            for row, (scene, _) in enumerate(postcards)
            if {t.kind for t in scene.things} == {"dog"}
            and (small[row, present] == PRESENT) == told
            and codes[row, present] == PRESENT
        ]
        for told in (True, False)
    }
    assert dogs and max(heights[True]) < min(heights[False])


def test_accuracy_counts_told_fields_only(postcards: Postcards):
    network = build_recogniser(RUN).eval()
    pictures = torch.zeros(70, 3, 64, 64)
    truth = network.read(pictures).classes
    truth[:, 1] = NOT_CLAIMED
    truth[:7, 0] = (truth[:7, 0] + 1) % len(FIELDS[0][1])
    counts = field_accuracy(network, pictures, truth)
    assert counts["city"] == (63, 70) and counts["weather"] == (0, 0) and counts["time"] == (70, 70)
    groups = group_accuracy(counts)
    assert groups["city"] == 0.9 and "weather" not in groups and groups["color"] == 1
    assert all_codes(postcards).shape == (64, len(FIELDS))
