"""The losses of the text encoder on a world of two colored halves.

It does not know of scenes: captions are the ids of the two colors.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import SigLipLoss
from torch import Tensor

from training.clip_objective import (
    ClipObjective,
    RecordReadings,
    evaluate_clip,
    record_loss,
    sigmoid_loss,
)
from training.text_tower import build_clip

COLORS = torch.tensor([[1.0, -0.8, -0.8], [-0.8, 1.0, -0.8], [-0.8, -0.8, 1.0], [1.0, 1.0, -0.8]])
BOS, EOS, TOKENS = 8, 9, 12
FIELDS = ("left", "right")


def objective(**options: float) -> ClipObjective:
    clip = build_clip(vocab_size=10, eos_token_id=EOS, seed=0, width=32, layers=2, heads=2,
                      context_length=TOKENS, image_size=32, vision_width=8)  # fmt: skip
    return ClipObjective(clip, class_counts=(len(COLORS), len(COLORS)), **options)


def ids_of(pairs: Tensor) -> Tensor:
    """The caption "left color, right color" of each row of `pairs` [..., 2]; -1 leaves a word out."""
    rows = [[BOS, *(c for c in pair if c >= 0), EOS] for pair in pairs.reshape(-1, 2).tolist()]
    ids = torch.tensor([row + [EOS] * (TOKENS - len(row)) for row in rows])
    return ids.reshape(*pairs.shape[:-1], TOKENS)


def batch(step: int, size: int = 12) -> dict[str, Tensor]:
    """Two different colors side by side; the wrong captions swap them, or change one."""
    draws = torch.Generator().manual_seed(step)
    pairs = torch.stack([torch.randperm(len(COLORS), generator=draws)[:2] for _ in range(size)])
    halves = COLORS[pairs].transpose(1, 2)[:, :, None, :].expand(-1, -1, 32, -1).repeat_interleave(16, dim=3)
    other = torch.stack([pairs[:, 0], (pairs[:, 1] + 1) % len(COLORS)], dim=1)
    return {
        "pictures": halves + 0.1 * torch.randn(halves.shape, generator=draws),
        "ids": ids_of(pairs),
        "negative_ids": ids_of(torch.stack([pairs.flip(1), other], dim=1)),
        "claims": pairs,
        "also_true": (pairs[:, None] == pairs[None]).all(dim=2),
        "row": torch.arange(size),
    }


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_without_wrong_captions_and_twins_it_is_open_clips_loss():
    pictures, texts = unit(5, 8, seed=1), unit(5, 8, seed=2)
    scale, bias = torch.tensor(2.0), torch.tensor(-3.0)
    ours = sigmoid_loss(pictures, texts, wrong=torch.zeros(5, 0, 8), also_true=torch.eye(5).bool(),
                        log_scale=scale, bias=bias)  # fmt: skip
    theirs = SigLipLoss()(pictures, texts, scale.exp(), bias)
    torch.testing.assert_close(ours, theirs)


def test_each_wrong_caption_adds_one_negative_pair():
    pictures, texts, wrong = unit(4, 8, seed=1), unit(4, 8, seed=2), unit(4, 3, 8, seed=3)
    options = {"also_true": torch.eye(4).bool(), "log_scale": torch.tensor(1.0), "bias": torch.tensor(-1.0)}
    plain = sigmoid_loss(pictures, texts, wrong=wrong[:, :0], **options)
    added = -sum(
        math.log(1 / (1 + math.exp(math.e * float(pictures[i] @ wrong[i, j]) - 1)))
        for i in range(4)
        for j in range(3)
    )
    torch.testing.assert_close(sigmoid_loss(pictures, texts, wrong=wrong, **options), plain + added / 4)


def test_a_caption_that_is_also_true_of_another_picture_is_no_negative_there():
    pictures, texts = unit(4, 8, seed=1), unit(4, 8, seed=2)
    also_true = torch.zeros(4, 4, dtype=torch.bool)
    also_true[0] = True  # all captions fit picture 0
    texts.requires_grad_()
    options = {"wrong": torch.zeros(4, 0, 8), "log_scale": torch.tensor(1.0), "bias": torch.tensor(0.0)}
    masked = sigmoid_loss(pictures, texts, also_true=also_true, **options)
    full = sigmoid_loss(pictures, texts, also_true=torch.zeros_like(also_true), **options)
    dropped = F.softplus(math.e * texts[1:] @ pictures[0]).sum() / 4
    torch.testing.assert_close(masked, full - dropped)
    (gradient,) = torch.autograd.grad(masked, texts)
    assert gradient[0].norm() > 0.01, "its own caption still attracts picture 0"


def test_an_untrained_record_head_is_equally_unsure_of_every_claimed_field():
    losses = objective()(batch(0))
    assert float(losses["record"].detach()) == pytest.approx(2 * math.log(4), rel=1e-5)
    partly = batch(0) | {"claims": torch.tensor([[1, -1]] * 12)}
    assert float(objective()(partly)["record"].detach()) == pytest.approx(math.log(4), rel=1e-5)


def test_a_field_without_a_claim_costs_and_teaches_nothing():
    scores = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    claims = torch.tensor([[1, -1], [0, 2]])
    loss = record_loss(RecordReadings(scores, scores), claims, class_counts=(2, 3))
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (gradient[0, 2:] == 0).all() and (gradient[0, :2] != 0).all() and (gradient[1] != 0).all()
    silent = record_loss(RecordReadings(scores, scores), torch.full((2, 2), -1), class_counts=(2, 3))
    assert float(silent.detach()) == 0


def test_the_total_is_the_weighted_sum():
    losses = objective(record_weight=0.25)(batch(0))
    torch.testing.assert_close(losses["loss"], losses["sigmoid"] + 0.25 * losses["record"])


def test_a_process_with_some_rows_finds_its_own_columns_in_the_mask():
    whole = batch(0, size=8)
    whole["also_true"] = torch.rand(8, 8, generator=torch.Generator().manual_seed(3)) < 0.5
    mine = {name: value[1::2] for name, value in whole.items()}
    alone = mine | {"also_true": whole["also_true"][1::2, 1::2], "row": torch.arange(4)}
    assert mine["also_true"].shape == (4, 8)
    net = objective()
    torch.testing.assert_close(net(mine)["loss"], net(alone)["loss"])


def test_every_weight_is_trained_the_positions_of_the_pads_too():
    net = objective()
    torch.nn.init.constant_(net.head.attended_weight, 0.1)  # zero at the start, it passes nothing on
    net.head.attended_weight.data[::2] *= -1
    net(batch(0))["loss"].backward()
    gradients = {name: weight.grad for name, weight in net.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    positions = gradients["clip.positional_embedding"]
    assert positions is not None and (positions.abs().sum(dim=1) > 0).all()


def test_the_same_batch_gives_bit_equal_losses_and_gradients():
    results = []
    for _ in range(2):
        net = objective()
        net(batch(0))["loss"].backward()
        results.append([weight.grad for weight in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_training_learns_to_tell_swapped_colors_apart_and_to_read_the_record():
    net = objective()
    before = evaluate_clip(net, [batch(1000, size=64)], field_names=FIELDS)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.98))
    losses = []
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 10)
        loss = net(batch(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    after = evaluate_clip(net, [batch(1001, size=64), batch(1002, size=64)], field_names=FIELDS)
    assert before.swap_accuracy < 0.8 and after.swap_accuracy > 0.9
    assert before.record_accuracy < 0.5 and after.record_accuracy > 0.75
    assert after.wrong_captions == 2 * 64 * 2
    assert [(field.name, field.claimed) for field in after.fields] == [("left", 128), ("right", 128)]
    assert net.training, "evaluation leaves the mode as it found it"


def test_only_claimed_fields_are_scored():
    scores = evaluate_clip(
        objective(), [batch(0) | {"claims": torch.tensor([[0, -1]] * 12)}], field_names=FIELDS
    )
    assert [field.claimed for field in scores.fields] == [12, 0]
    assert scores.fields[0].correct == 12, "an untrained head answers class 0"
    assert scores.record_accuracy == 1.0
