"""The UNet's batches are functions of the step, its losses fall, and its validation is fixed."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from training.draws import generator
from training.recipes import SMOKE
from training.unet import (
    LatentSet,
    UNetObjective,
    UNetRun,
    initial_unet,
    learning_encoder,
    stratified,
    train,
    trained_text_encoder,
    trained_unet,
    training_batch,
    validation_loss,
)

RUN = replace(
    SMOKE.unet,
    half_size_steps=2,
    half_size_batch=20,
    fit=replace(SMOKE.unet.fit, total_steps=16, batch_size=10, save_every_steps=8),
)


@pytest.fixture(scope="module")
def data() -> LatentSet:
    """24 pictures whose latents are flat fields, told by the token states."""
    draws = generator(0, "test")
    level = torch.randn(24, 4, 1, 1, generator=draws)
    mean = level.expand(-1, -1, 8, 8)
    whole = torch.cat([mean, torch.full_like(mean, 0.01)], dim=1).half().numpy()
    states = torch.randn(24, 3, 77, 16, generator=draws)
    states[:, :, :, :4] = level[:, None, None, :, 0, 0]
    half = np.ascontiguousarray(whole[:, :, :4, :4])
    empty = torch.full((77, 16), 7.0)
    shares = np.zeros((24, 8, 8), np.float32)
    shares[:, 2, 4], shares[:, 3, 4] = 1.0, 0.5
    return LatentSet(
        whole=whole, half=half, shares=shares, texts=states.half().numpy(), empty=empty, key="test"
    )


def untrained(run: UNetRun) -> UNet2DConditionModel:
    return initial_unet(run, None, latent_channels=4, text_width=16)


def text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, hidden_act="gelu", bos_token_id=0, eos_token_id=3, pad_token_id=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(0, "text").get_state())
        return CLIPTextModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def told(data: LatentSet) -> LatentSet:
    """The same pictures, each told by token ids that stand for its level."""
    levels = data.whole[:, 0, 0, 0].astype(np.float32)
    ids = np.full((24, 3, 77), 3, np.int16)
    ids[:, :, 0] = np.digitize(levels, np.linspace(-2, 2, 20))[:, None] + 4
    return replace(data, texts=ids, empty=torch.full((77,), 3))


def test_a_text_encoder_learns_at_its_share_of_the_rate(
    told: LatentSet, tmp_path: Path, accelerator: Accelerator
):
    start = text_encoder()
    run = replace(RUN, half_size_steps=0, text_share=0.5, fit=replace(RUN.fit, total_steps=60))
    progresses = list(
        train(run, told, text_encoder=start, run_folder=tmp_path / "both", accelerator=accelerator)
    )
    losses = [progress.losses["loss"] for progress in progresses]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    learned = trained_text_encoder(run, tmp_path / "both", start)
    changed = [not torch.equal(a, b) for a, b in zip(learned.parameters(), start.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert not learned.training and not any(p.requires_grad for p in learned.parameters())
    unet = trained_unet(run, tmp_path / "both", latent_channels=4, text_width=16)
    trained = validation_loss(UNetObjective(unet, run, text_encoder=learned), told)
    with progresses[-1].averaged() as objective:
        assert isinstance(objective, UNetObjective)
        assert validation_loss(objective, told) == pytest.approx(trained, rel=1e-3)
    assert trained < validation_loss(UNetObjective(unet, run, text_encoder=start), told)


def test_without_a_share_the_text_encoder_stays(tmp_path: Path):
    start = text_encoder()
    assert trained_text_encoder(RUN, tmp_path, start) is start
    with pytest.raises(
        ValueError, match=r"^text_share=0\.5 without text_encoder: give the one to start from"
    ):
        learning_encoder(replace(RUN, text_share=0.5), None)


def test_a_batch_is_a_function_of_the_step_alone(data: LatentSet):
    alone = training_batch(RUN, data, 9)
    for step in (0, 3, 8):
        training_batch(RUN, data, step)
    again = training_batch(RUN, data, 9)
    assert all(torch.equal(alone[name], again[name]) for name in alone)
    assert not torch.equal(training_batch(RUN, data, 10)["noise"], alone["noise"])


def test_half_size_steps_come_first(data: LatentSet):
    shapes = [training_batch(RUN, data, step)["latents"].shape for step in (1, 2)]
    assert shapes == [(20, 8, 4, 4), (10, 8, 8, 8)]


def test_cells_with_things_weigh_more_until_the_last_steps(data: LatentSet):
    run = replace(RUN, thing_weight=5.0, thing_weight_steps=4)
    whole, half, last = (training_batch(run, data, step)["importance"] for step in (3, 1, 4))
    assert whole.shape == (10, 8, 8) and half.shape == (20, 4, 4)
    assert (whole[:, 2, 4] == 5.0).all() and (whole[:, 3, 4] == 3.0).all() and (whole[:, 0] == 1.0).all()
    assert (half[:, 1, 2] == 1 + 4 * 1.5 / 4).all()
    assert (last == 1.0).all()


def test_the_weight_multiplies_the_squared_error_of_its_cell(data: LatentSet):
    objective = UNetObjective(untrained(RUN), RUN)
    batch = training_batch(RUN, data, 5)
    with torch.no_grad():
        plain = objective.squared_errors(batch)
        single = torch.zeros(10, 8, 8)
        single[:, 1, 1] = 64.0
        parts = [objective.squared_errors({**batch, "importance": cell.expand(10, 8, 8)})
                 for cell in torch.eye(64).reshape(64, 8, 8)]  # fmt: skip
        one = objective.squared_errors({**batch, "importance": single})
    assert torch.allclose(torch.stack(parts).sum(0), plain, rtol=1e-4)
    assert torch.allclose(one, 64 * parts[9], rtol=1e-4)


@pytest.mark.parametrize("share, least, most", [(0.0, 0, 0), (0.1, 5, 40), (1.0, 200, 200)])
def test_captions_give_way_to_the_encoded_empty_string(data: LatentSet, share: float, least: int, most: int):
    run = replace(RUN, empty_share=share)
    batches = [training_batch(run, data, step) for step in range(2, 22)]
    dropped = sum(int((b["texts"] == 7.0).flatten(1).all(dim=1).sum()) for b in batches)
    assert least <= dropped <= most


def test_noise_levels_are_spread_evenly_over_a_batch():
    spread = stratified(torch.rand(10, 2, generator=generator(0, "s")))
    assert (spread[:, 0] * 10).floor().tolist() == list(range(10))


@pytest.mark.parametrize("prediction", ["flow", "epsilon", "v"])
def test_the_loss_falls_for_every_prediction(
    data: LatentSet, tmp_path: Path, accelerator: Accelerator, prediction
):
    run = replace(RUN, prediction=prediction, half_size_steps=0)
    losses = [p.losses["loss"] for p in train(run, data, run_folder=tmp_path, accelerator=accelerator)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_validation_is_fixed_and_sees_the_caption(data: LatentSet, tmp_path: Path, accelerator: Accelerator):
    def now(objective: UNetObjective, conditioning) -> float:
        return validation_loss(objective, data, conditioning=conditioning)

    progresses = train(RUN, data, run_folder=tmp_path, accelerator=accelerator)
    progress = next(progresses)
    with progress.averaged() as objective:
        assert isinstance(objective, UNetObjective)
        first = now(objective, "true")
        assert now(objective, "true") == first
    for _ in progresses:
        pass
    with progress.averaged() as objective:
        assert isinstance(objective, UNetObjective)
        assert now(objective, "true") < first
        assert now(objective, "true") != now(objective, "empty")
        trained = now(objective, "true")
    unet = trained_unet(RUN, tmp_path, latent_channels=4, text_width=16)
    assert now(UNetObjective(unet, RUN), "true") == pytest.approx(trained, rel=1e-3)


def test_a_warm_start_takes_the_weights_and_is_another_run(
    data: LatentSet, tmp_path: Path, accelerator: Accelerator
):
    unet = untrained(replace(RUN, seed=99))
    unet.save_pretrained(tmp_path / "unet", safe_serialization=True)
    warm = initial_unet(RUN, tmp_path / "unet", latent_channels=4, text_width=16)
    assert all(torch.equal(a, b) for a, b in zip(warm.parameters(), unet.parameters(), strict=True))
    run = replace(RUN, fit=replace(RUN.fit, total_steps=1))
    list(train(run, data, run_folder=tmp_path / "run", accelerator=accelerator))
    with pytest.raises(ValueError, match="made by another recipe"):
        list(
            train(RUN, data, initial=tmp_path / "unet", run_folder=tmp_path / "run", accelerator=accelerator)
        )


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda run: run, "holds no UNet"),
        (lambda run: replace(run, shape=replace(run.shape, channels=(32, 96))), "another shape"),
    ],
)
def test_a_warm_start_from_something_else_is_refused(
    data: LatentSet, tmp_path: Path, spoil: Callable[[UNetRun], UNetRun], words: str
):
    if words == "another shape":
        untrained(spoil(RUN)).save_pretrained(tmp_path, safe_serialization=True)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        initial_unet(RUN, tmp_path, latent_channels=4, text_width=16)
