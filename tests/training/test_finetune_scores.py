"""How a fine-tuning is looked at: fixed draws, drift that is zero for the base, and copies that are found."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.tiny_finetune import NumberPictures
from training.bases import Base
from training.finetune import FinetuneObjective, LooksConfig, build_objective
from training.finetune_batches import LatentStore, TextStore
from training.finetune_recipes import FULL
from training.finetune_scores import (
    Yardstick,
    copying,
    held_out_loss,
    look,
    look_at_base,
    nearest,
    preview_prompts,
    usual_bucket,
)

RUN = replace(FULL, looks=LooksConfig(steps=1, drift_prompts=("dog", "")))


def measured(folder: Path) -> tuple[Yardstick, FinetuneObjective]:
    pipeline = tiny.make_pipeline()
    base = Base("tiny", pipeline, "flow", None)
    training, held_out = NumberPictures(9), NumberPictures(6, first=9)
    stores = [LatentStore(set_, pipeline.vae, folder=folder, vary=False) for set_ in (training, held_out)]
    yardstick = Yardstick(
        run=RUN,
        base=base,
        texts=TextStore(pipeline.tokenizer, pipeline.text_encoder),
        held_out=stores[1],
        training=stores[0],
        prompts=("a red dog", "paris"),
        bucket=usual_bucket(training),
    )
    return yardstick, build_objective(RUN, base)


def test_the_base_drifts_by_nothing_and_a_changed_network_by_something(tmp_path: Path):
    yardstick, objective = measured(tmp_path)
    objective.eval()
    before = look(yardstick, objective)
    again = look(yardstick, objective, before=before).values
    assert again["held_out/drift"] == again["held_out/change"] == 0
    assert again["held_out/loss"] == before.values["held_out/loss"]
    tiny.randomize(objective.unet, 8)
    after = look(yardstick, objective, before=before).values
    assert after["held_out/drift"] > 0 and after["held_out/change"] > 0
    assert after["held_out/loss"] != before.values["held_out/loss"]
    assert after["held_out/nearest_to_held_out"] == before.values["held_out/nearest_to_held_out"] > 0


def test_the_loss_is_a_mean_over_pictures_whatever_their_bucket(tmp_path: Path):
    yardstick, objective = measured(tmp_path)
    objective.eval()
    both = held_out_loss(yardstick, objective)
    assert yardstick.held_out is not None
    parts = []
    for bucket, indices in yardstick.held_out.members.items():
        other = LatentStore(
            yardstick.held_out.pictures, yardstick.base.pipeline.vae, folder=tmp_path, vary=False
        )
        other.members = {bucket: indices}
        alone = held_out_loss(replace(yardstick, held_out=other), objective)
        parts.append(alone)  # each is divided by the number of all pictures
    assert both == pytest.approx(sum(parts), rel=1e-5)


def test_the_bases_measures_are_taken_once(tmp_path: Path):
    yardstick, objective = measured(tmp_path)
    first = look_at_base(yardstick, objective, base_key="k", folder=tmp_path / "base")
    tiny.randomize(objective.unet, 8)
    kept = look_at_base(yardstick, objective, base_key="k", folder=tmp_path / "base")
    assert kept.values == first.values and torch.equal(kept.previews, first.previews)
    other = look_at_base(yardstick, objective, base_key="another", folder=tmp_path / "base")
    assert not torch.equal(other.drift, first.drift)


def test_a_copy_is_at_no_distance():
    bank = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    found = nearest(torch.stack([bank[3], bank[1] + 2.0]), bank)
    assert found[0] == pytest.approx(0, abs=1e-6) and found[1] == pytest.approx(4.0, rel=0.5)
    words = {"held_out/nearest_to_previews": 0.1, "held_out/nearest_to_held_out": 1.0}
    assert "may be copying" in copying(words)
    assert "no sign" in copying({**words, "held_out/nearest_to_previews": 0.9})
    assert "was not measured" in copying({})


def test_prompts_are_given_or_held_out_captions_or_training_ones():
    training, held_out = NumberPictures(9), NumberPictures(3, first=20)
    assert preview_prompts(["a", "b"], held_out, training, count=1) == ("a", "b")
    drawn = preview_prompts([], held_out, training, count=2)
    assert len(drawn) == 2 and drawn[0] in held_out.captions(0)
    assert preview_prompts([], NumberPictures(0), training, count=1)[0] in training.captions(0)
