"""Networks get more latent channels and at first compute what they did before."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from training.networks import UNetShape, VaeShape, build_unet, build_vae
from training.recipes import SMOKE
from training.unet import initial_unet
from training.vae import initial_vae

FEW, MANY = 4, 7
SHAPE = VaeShape(channels=(8, 8, 16, 16), latent_channels=FEW)
UNET = UNetShape(channels=(32, 64), attention=(False, True), sample_size=8)
WIDE = replace(SMOKE.vae, shape=replace(SHAPE, latent_channels=MANY))
DRAWS = SMOKE.unet


def shaken(network: nn.Module) -> nn.Module:
    """With weights that are all different from those of a new network, zero for none."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draws)
    return network.eval()


@pytest.fixture(scope="module")
def few_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        vae = shaken(build_vae(SHAPE))
    assert isinstance(vae, AutoencoderKL)
    folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def means(vae: AutoencoderKL, pictures: Tensor):
    return vae.encode(pictures).latent_dist  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def test_a_grown_vae_draws_the_same_whatever_its_new_channels_hold(few_vae: Path, pictures: Tensor):
    old, new = AutoencoderKL.from_pretrained(few_vae).eval(), initial_vae(WIDE, few_vae).eval()
    assert new.config["latent_channels"] == MANY
    before, after = means(old, pictures), means(new, pictures)
    torch.testing.assert_close(after.mean[:, :FEW], before.mean)
    torch.testing.assert_close(after.logvar[:, :FEW], before.logvar)
    assert after.mean[:, FEW:].std() > 0.01, "a channel that holds nothing learns nothing"
    assert (after.logvar[:, FEW:] < -10).all()
    filled = after.mean.clone()
    filled[:, FEW:] = 100.0
    wanted = old.decode(before.mean).sample  # pyright: ignore[reportAttributeAccessIssue]
    for latents in (after.mean, filled):
        drawn = new.decode(latents).sample  # pyright: ignore[reportAttributeAccessIssue]
        torch.testing.assert_close(drawn, wanted, rtol=1e-4, atol=1e-4)


def test_new_channels_of_a_vae_learn_from_the_first_step(few_vae: Path, pictures: Tensor):
    vae = initial_vae(WIDE, few_vae)
    drawn = vae.decode(means(vae, pictures).mean).sample  # pyright: ignore[reportAttributeAccessIssue]
    (drawn - pictures).abs().mean().backward()
    assert vae.decoder.conv_in.weight.grad is not None
    assert (vae.decoder.conv_in.weight.grad[:, FEW:].abs() > 0).any()


@torch.no_grad()
def test_a_grown_unet_predicts_the_same_in_its_old_channels(tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        old = shaken(build_unet(UNET, latent_channels=FEW, text_width=16))
    assert isinstance(old, UNet2DConditionModel)
    old.save_pretrained(tmp_path)
    run = replace(DRAWS, shape=UNET)
    new = initial_unet(run, tmp_path, latent_channels=MANY, text_width=16).eval()
    draws = torch.Generator().manual_seed(2)
    latents, states = torch.randn(2, MANY, 8, 8, generator=draws), torch.randn(2, 77, 16, generator=draws)
    wanted = old(latents[:, :FEW], torch.tensor(500), states).sample
    predicted = new(latents, torch.tensor(500), states).sample
    torch.testing.assert_close(predicted[:, :FEW], wanted, rtol=1e-4, atol=1e-4)
    assert (predicted[:, FEW:] == 0).all()


@pytest.mark.parametrize(
    "shape",
    [
        replace(SHAPE, latent_channels=3),
        replace(SHAPE, channels=(8, 8, 16, 32), latent_channels=MANY),
        replace(SHAPE, layers=2, latent_channels=MANY),
    ],
    ids=["fewer channels", "wider", "deeper"],
)
def test_what_is_no_growth_of_channels_is_refused(few_vae: Path, shape: VaeShape):
    with pytest.raises(ValueError, match="has another shape than the recipe's VAE"):
        initial_vae(replace(WIDE, shape=shape), few_vae)
