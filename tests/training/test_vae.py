"""The VAE learns, and its latent statistics are folded in exactly."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor

from training.data.postcards import Postcards
from training.pictures import picture_tensor
from training.recipes import SMOKE
from training.recogniser import build_recogniser
from training.vae import (
    VaeObjective,
    color_distance,
    fold_statistics,
    gradient_distance,
    initial_vae,
    latent_statistics,
    psnr,
    reconstruct,
    train,
    trained_vae,
    warm_folder,
    weighted_mean,
)

RUN = replace(SMOKE.vae, fit=replace(SMOKE.vae.fit, total_steps=24))


@pytest.fixture(scope="module")
def pictures(postcards: Postcards) -> Tensor:
    return picture_tensor(postcards.images(list(range(24))))


def uneven_vae() -> AutoencoderKL:
    """A VAE whose latents are far from standard: off center, each channel at its own scale."""
    vae = initial_vae(RUN).eval()
    with torch.no_grad():
        assert vae.quant_conv is not None and vae.quant_conv.bias is not None
        vae.quant_conv.weight[:4] *= torch.tensor([0.5, 3.0, 1.0, 9.0])[:, None, None, None]
        vae.quant_conv.bias[:4] += torch.tensor([2.0, -1.0, 0.0, 5.0])
    return vae


def posterior(vae: AutoencoderKL, pictures: Tensor):
    return vae.encode(pictures).latent_dist  # pyright: ignore[reportAttributeAccessIssue]


def batches(pictures: Tensor) -> Iterator[Tensor]:
    return iter(pictures.split(10))


def test_folding_changes_no_picture_and_makes_scaled_latents_standard(pictures: Tensor):
    vae = uneven_vae()
    before, statistics = reconstruct(vae, pictures), latent_statistics(vae, batches(pictures))
    with torch.no_grad():
        spread = posterior(vae, pictures).std
    fold_statistics(vae, statistics)
    torch.testing.assert_close(reconstruct(vae, pictures), before, atol=1e-4, rtol=0)
    folded = latent_statistics(vae, batches(pictures))
    torch.testing.assert_close(folded.mean * 0.18215, torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(folded.std * 0.18215, torch.ones(4), atol=1e-3, rtol=0)
    with torch.no_grad():
        wanted = spread / (statistics.std * 0.18215)[:, None, None]
        torch.testing.assert_close(posterior(vae, pictures).std, wanted, rtol=1e-3, atol=1e-5)
    assert vae.config["scaling_factor"] == 0.18215


def test_statistics_are_those_of_sampled_latents(pictures: Tensor):
    vae = uneven_vae()
    statistics = latent_statistics(vae, batches(pictures))
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        sampled = torch.cat([posterior(vae, pictures).sample(draws) for _ in range(20)])
    torch.testing.assert_close(statistics.mean, sampled.mean(dim=(0, 2, 3)), atol=0.05, rtol=0.02)
    torch.testing.assert_close(statistics.std, sampled.std(dim=(0, 2, 3)), atol=0.05, rtol=0.02)


def test_it_learns_and_its_averaged_weights_come_back(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    recogniser = build_recogniser(SMOKE.recogniser)
    frozen = recogniser.hidden.weight.clone()
    progresses = train(RUN, postcards, recogniser, run_folder=tmp_path, accelerator=accelerator)
    losses = [p.losses["pixel"] for p in progresses]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert torch.equal(recogniser.hidden.weight, frozen)
    vae = trained_vae(RUN, tmp_path)
    assert not vae.training and not any(p.requires_grad for p in vae.parameters())


@pytest.mark.parametrize("crop, shapes", [(32, {(8, 32), (2, 64)}), (64, {(8, 64)}), (128, {(8, 64)})])
def test_crops_and_whole_pictures_are_batches_of_the_same_area(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator, crop: int, shapes: set[tuple[int, int]]
):
    seen: set[tuple[int, int]] = set()

    class Watching(VaeObjective):
        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.add((len(batch["pictures"]), batch["pictures"].shape[-1]))
            return super().forward(batch)

    run = replace(RUN, crop=crop, whole_every=2, fit=replace(RUN.fit, total_steps=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.vae.VaeObjective", Watching)
        recogniser = build_recogniser(SMOKE.recogniser)
        list(train(run, postcards, recogniser, run_folder=tmp_path, accelerator=accelerator))
    assert seen == shapes


def test_a_warm_start_takes_the_weights_and_is_another_run(
    postcards: Postcards, tmp_path: Path, accelerator: Accelerator
):
    vae = initial_vae(replace(RUN, seed=99))
    vae.save_pretrained(tmp_path / "pipe" / "vae", safe_serialization=True)
    folder = warm_folder(tmp_path / "pipe")
    warm = initial_vae(RUN, folder)
    assert all(torch.equal(a, b) for a, b in zip(warm.parameters(), vae.parameters(), strict=True))
    run = replace(RUN, fit=replace(RUN.fit, total_steps=1))
    recogniser = build_recogniser(SMOKE.recogniser)
    list(train(run, postcards, recogniser, run_folder=tmp_path / "run", accelerator=accelerator))
    for other, initial in ((recogniser, folder), (build_recogniser(SMOKE.judge), None)):
        with pytest.raises(ValueError, match="made by another recipe"):
            list(train(run, postcards, other, initial=initial, run_folder=tmp_path / "run",
                       accelerator=accelerator))  # fmt: skip


def test_a_warm_start_from_something_else_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no vae/config.json there; name a pipeline folder"):
        warm_folder(tmp_path)
    wide = replace(RUN, shape=replace(RUN.shape, latent_channels=8))
    initial_vae(wide).save_pretrained(tmp_path / "vae", safe_serialization=True)
    with pytest.raises(ValueError, match="another shape than the recipe's VAE"):
        initial_vae(RUN, warm_folder(tmp_path))


def batch_of(pictures: Tensor, *, channels: int, disturbance: float = 0.0, things: float = 1.0):
    rows, side = len(pictures), pictures.shape[-1]
    draws = torch.Generator().manual_seed(3)
    weights = torch.ones(rows, 1, side, side)
    weights[..., : side // 2] = things
    shape = (rows, channels, side // 8, side // 8)
    return {
        "pictures": pictures,
        "noise": torch.zeros(shape),
        "disturbance": disturbance * torch.randn(shape, generator=draws),
        "weights": weights,
    }


def test_the_anchor_is_the_change_of_old_channels_only(pictures: Tensor, tmp_path: Path):
    initial_vae(RUN).save_pretrained(tmp_path, safe_serialization=True)
    run = replace(RUN, anchor_weight=2.0, shape=replace(RUN.shape, latent_channels=6))
    vae, recogniser = initial_vae(run, tmp_path), build_recogniser(SMOKE.recogniser)
    objective = VaeObjective(vae, recogniser, run, start=initial_vae(RUN, tmp_path))
    assert not any(name.startswith("start.") for name, p in objective.named_parameters() if p.requires_grad)
    batch = batch_of(pictures[:4], channels=6)
    with torch.no_grad():
        assert float(objective(batch)["anchor"]) < 1e-9
        assert vae.quant_conv is not None and vae.quant_conv.bias is not None
        vae.quant_conv.bias[4:6] += 5.0
        assert float(objective(batch)["anchor"]) < 1e-9
        vae.quant_conv.bias[:4] += 5.0
        losses = objective(batch)
        assert float(losses["anchor"]) == pytest.approx((5 * 0.18215) ** 2, rel=1e-3)
        other = VaeObjective(vae, recogniser, replace(run, anchor_weight=0.0), start=objective.start)
        without = float(other(batch)["loss"])
    assert float(losses["loss"]) == pytest.approx(without + 2 * float(losses["anchor"]), rel=1e-4)


def test_a_disturbance_is_in_units_of_the_latents_own_spread(pictures: Tensor):
    """Latents of ten times the size, which the decoder divides by ten again, are disturbed alike."""
    recogniser = build_recogniser(SMOKE.recogniser)
    found: list[float] = []
    for size in (1.0, 10.0):
        vae = initial_vae(RUN).eval()
        with torch.no_grad():
            assert vae.quant_conv is not None and vae.quant_conv.bias is not None
            assert vae.post_quant_conv is not None
            vae.quant_conv.weight[:4] *= size
            vae.quant_conv.bias[:4] *= size
            vae.post_quant_conv.weight /= size
            objective = VaeObjective(vae, recogniser, RUN)
            calm, disturbed = (
                float(objective(batch_of(pictures[:4], channels=4, disturbance=level))["pixel"])
                for level in (0.0, 1.0)
            )
        assert abs(disturbed - calm) > 1e-5
        found.append(disturbed - calm)
    assert found[0] == pytest.approx(found[1], rel=1e-2)


def test_errors_count_more_where_things_stand(postcards: Postcards, tmp_path: Path, accelerator: Accelerator):
    wrong = torch.zeros(1, 3, 16, 16)
    wrong[..., :8] = 1.0
    right, weights = torch.zeros_like(wrong), torch.ones(1, 1, 16, 16)
    weights[..., :8] = 3.0
    assert float(weighted_mean(wrong, None)) == 0.5
    assert float(weighted_mean(wrong, weights)) == pytest.approx(0.75)
    for distance in (gradient_distance, color_distance):
        alike = torch.full_like(weights, 7.0)
        plain = float(distance(wrong, right))
        assert float(distance(wrong, right, weights=alike)) == pytest.approx(plain)
    assert float(color_distance(wrong, right, weights=weights)) > float(color_distance(wrong, right))

    seen: list[Tensor] = []

    class Watching(VaeObjective):
        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.append(batch["weights"])
            return super().forward(batch)

    run = replace(RUN, thing_weight=3.0, whole_every=1, fit=replace(RUN.fit, total_steps=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.vae.VaeObjective", Watching)
        list(train(run, postcards, build_recogniser(SMOKE.recogniser), run_folder=tmp_path,
                   accelerator=accelerator))  # fmt: skip
    shares = (torch.cat(seen) - 1) / 2
    assert float(shares.min()) == 0 and 0.5 < float(shares.max()) <= 1
    covered = float(torch.from_numpy(postcards.thing_shares(list(range(len(postcards))))).mean())
    assert float(shares.mean()) == pytest.approx(covered, abs=0.05)


def test_a_probe_of_parts_of_a_pixel_is_refused():
    with pytest.raises(ValueError, match="probe_cells=3: choose 1, 2, 4 or 8"):
        replace(RUN, probe_cells=3)


def test_the_gradient_distance_sees_edges_and_not_brightness():
    flat = torch.zeros(1, 3, 8, 8)
    edge = flat.clone()
    edge[..., 4:] = 1
    assert float(gradient_distance(flat + 0.5, flat)) == 0
    assert float(gradient_distance(edge, flat)) > 0.1


def test_a_tenth_of_the_range_off_is_twenty_decibel():
    picture = torch.zeros(2, 3, 8, 8)
    assert psnr(picture + 0.2, picture) == pytest.approx(20, abs=1e-4)
