"""The networks' shapes: what goes in, what comes out, how large the recipes' ones are."""

from typing import Any

import pytest
import torch

from training.networks import VAE_FACTOR, UNetShape, VaeShape, build_unet, build_vae


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 8])
def test_a_vae_stands_one_latent_for_each_eight_by_eight_pixels(channels: int):
    vae: Any = build_vae(VaeShape(channels=(8, 8, 16, 16), latent_channels=channels))
    pictures = torch.zeros(2, 3, 32, 48)
    latents = vae.encode(pictures).latent_dist.mean
    assert latents.shape == (2, channels, 32 // VAE_FACTOR, 48 // VAE_FACTOR)
    assert vae.decode(latents).sample.shape == pictures.shape
    assert vae.config["scaling_factor"] == 0.18215, "loaders that ignore the config fall back to it"


@torch.no_grad()
def test_a_unet_predicts_in_the_shape_of_its_latents_and_listens_to_the_text():
    shape = UNetShape(channels=(32, 64), attention=(False, True), sample_size=8)
    unet = build_unet(shape, latent_channels=4, text_width=24).eval()
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 12, generator=draws)
    texts = torch.randn(2, 77, 24, generator=draws)
    first, second = (unet(latents, torch.tensor([500.0]), text[None]).sample for text in texts)
    assert first.shape == latents.shape
    assert not torch.equal(first, second)


def test_attention_stands_on_the_chosen_levels_with_heads_of_32_channels():
    shape = UNetShape(channels=(32, 64, 96), attention=(False, True, False))
    with torch.device("meta"):
        unet = build_unet(shape, latent_channels=4, text_width=24)
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == [False, True, False]
    assert [hasattr(block, "attentions") for block in unet.up_blocks] == [False, True, False]
    heads = {m.heads for name, m in unet.down_blocks[1].named_modules() if name.endswith(("attn1", "attn2"))}
    assert heads == {2}


@pytest.mark.parametrize(
    "network, smallest, largest",
    [
        (lambda: build_vae(VaeShape()), 2.4e6, 2.8e6),
        (lambda: build_unet(UNetShape(), latent_channels=8, text_width=192), 16.2e6, 17.2e6),
    ],
    ids=["vae", "unet"],
)
def test_the_standard_networks_keep_their_size(network: Any, smallest: float, largest: float):
    with torch.device("meta"):
        assert smallest < parameters(network()) < largest
