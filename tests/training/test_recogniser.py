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
    UNTOLD,
    RecogniserObjective,
    all_codes,
    all_points,
    build_objective,
    build_recogniser,
    copy_recogniser,
    field_accuracy,
    group_accuracy,
    mirror,
    point_map,
    small_codes,
    train,
    trained_recogniser,
)
from training.scenes.world import KINDS

RUN = replace(SMOKE.recogniser, fit=replace(SMOKE.recogniser.fit, total_steps=30))


def test_it_learns_and_its_averaged_weights_come_back(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    losses = [p.losses["loss"] for p in train(RUN, postcards, run_folder=tmp_path, accelerator=accelerator)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    network = trained_recogniser(RUN, tmp_path, size=64)
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
    assert trained_recogniser(run, tmp_path, size=64).config.merged == run.merged
    with pytest.raises(ValueError, match="part_weight=0.5: needs a merged map"):
        replace(run, merged=0)


COUNTING = replace(SMOKE.judge, point_weight=0.2, fit=replace(SMOKE.judge.fit, total_steps=30))


def test_things_are_pointed_at_where_they_stand(postcards: Postcards):
    assert build_recogniser(COUNTING).counted == sorted(KINDS)
    points = all_points(postcards)
    cells, told = 64 // 4, 0
    for (scene, sight), found, cells_of in zip(postcards, points, point_map(points, cells), strict=True):
        assert len(found) == len(scene.things) and all(sight.things_seen)
        for thing, (row, column, what) in zip(scene.things, found.tolist(), strict=True):
            assert abs((column + 0.5) * 1000 / cells - thing.x) <= 1000 / cells
            middle = (row + 0.5) * 1000 / cells
            assert thing.y - thing.height - 1000 / cells < middle < thing.y - thing.height / 2
            assert what == 1 + sorted(KINDS).index(thing.kind) == cells_of[row, column]
        told += int((cells_of != 0).sum())
    assert told > 0.9 * sum(map(len, points)) > 30


def test_the_points_of_hidden_things_are_left_open_unless_something_else_is_there():
    points = [torch.tensor([[1, 2, UNTOLD], [3, 4, UNTOLD], [3, 4, 5]]), torch.empty(0, 3, dtype=torch.int64)]
    maps = point_map(points, 6)
    assert maps[0, 1, 2] == UNTOLD and maps[0, 3, 4] == 5
    assert int((maps[0] != 0).sum()) == 2 and not maps[1].any()


def test_points_are_learned_and_the_part_of_the_loss_that_they_are_given(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    progresses = list(train(COUNTING, postcards, run_folder=tmp_path, accelerator=accelerator))
    first, last = progresses[0].losses, progresses[-1].losses
    whole = first["read"] + COUNTING.part_weight * first["parts"] + COUNTING.point_weight * first["points"]
    assert first["loss"] == pytest.approx(whole, rel=1e-5) and last["points"] < 0.9 * first["points"]
    config = trained_recogniser(COUNTING, tmp_path, size=64).config
    assert config.points and config.size == 64
    with pytest.raises(ValueError, match="point_weight=0.2: needs a merged map"):
        replace(COUNTING, merged=0, part_weight=0)


def test_a_cell_that_is_left_open_costs_nothing_and_points_are_averaged_over():
    objective = build_objective(COUNTING)
    pictures = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    points = torch.full((1, 16, 16), UNTOLD)
    batch = {
        "pictures": pictures,
        "codes": torch.full((1, len(FIELDS)), NOT_CLAIMED),
        "parts": torch.zeros(1, 16, 16, dtype=torch.int64),
        "points": points,
    }
    assert objective(batch)["points"].item() == 0
    points[0, 3, 4], points[0, 5, 6] = 2, 7
    logs = objective.recogniser.point_logits(objective.recogniser.map(pictures)).log_softmax(dim=1)
    torch.testing.assert_close(objective(batch)["points"], -(logs[0, 2, 3, 4] + logs[0, 7, 5, 6]) / 2)


def test_a_warm_judge_answers_as_before_and_may_learn_to_point(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    old = build_recogniser(SMOKE.judge)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for run in (SMOKE.judge, COUNTING):
        new = build_objective(replace(run, seed=5), initial=old).recogniser
        for before, after in zip(old(pictures), new(pictures), strict=True):
            torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"--init-from: not the recipe's network \(other widths\)"):
        copy_recogniser(build_recogniser(replace(SMOKE.judge, widths=(8, 16, 24))), old)
    with pytest.raises(ValueError, match=r"not the recipe's network \(other points\)"):
        copy_recogniser(build_recogniser(COUNTING), old)
    run = replace(COUNTING, fit=replace(COUNTING.fit, total_steps=1))
    list(train(run, postcards, run_folder=tmp_path, accelerator=accelerator, initial=old))
    with pytest.raises(ValueError, match="another recipe"):  # warm and cold are two runs
        list(train(run, postcards, run_folder=tmp_path, accelerator=accelerator))


def test_a_mirror_turns_pictures_sides_parts_and_points_and_nothing_else():
    side, city = FIELD_INDEX["dog.side"], FIELD_INDEX["city"]
    codes = torch.full((3, len(FIELDS)), NOT_CLAIMED)
    codes[:, city], codes[:, side] = 1, torch.tensor([0, 1, 2])
    codes[:, FIELD_INDEX["cat.side"]] = torch.tensor([2, NOT_CLAIMED, 2])
    batch = {
        "pictures": torch.arange(2 * 3 * 3 * 4.0).reshape(2, 3, 3, 4)[[0, 1, 1]],
        "parts": torch.arange(12).reshape(1, 3, 4).repeat(3, 1, 1),
        "points": torch.arange(12).reshape(1, 3, 4).repeat(3, 1, 1),
        "codes": codes,
    }
    before = {name: tensor.clone() for name, tensor in batch.items()}
    mirror(batch, torch.tensor([True, True, False]))
    left, center, right = (FIELDS[side][1].index(name) for name in ("left", "center", "right"))
    assert (left, center, right) == (0, 1, 2)
    assert batch["codes"][:, side].tolist() == [right, center, right]
    assert batch["codes"][:, FIELD_INDEX["cat.side"]].tolist() == [left, NOT_CLAIMED, right]
    assert torch.equal(batch["codes"][:, city], before["codes"][:, city])
    for name in ("pictures", "parts", "points"):
        assert torch.equal(batch[name][:2], before[name][:2].flip(-1))
        assert torch.equal(batch[name][2], before[name][2])
    with pytest.raises(ValueError, match="mirrored_share=2: is a share"):
        replace(COUNTING, mirrored_share=2)


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
