"""Latents of a picture set: the VAE's own, made once, keyed by all that decides them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.odd_pictures import drawing, encoded
from tests.tiny import make_vae
from training.data.latent_cache import latent_cache
from training.data.picture_set import OpenedPictures

OpenSet = Callable[..., OpenedPictures]


@pytest.fixture(scope="module")
def vae() -> Any:
    return make_vae().eval()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.npy")}


@torch.no_grad()
def test_latents_are_the_vae_s_own(open_set: OpenSet, vae: Any, tmp_path: Path):
    pictures = open_set().training
    cache = latent_cache(pictures, vae, tmp_path / "latents", dtype=torch.float32)
    batch = pictures.batch_at(seed=0, step=0, batch_size=4)
    posterior = vae.encode(torch.stack([pictures.tensor(i) for i in batch])).latent_dist
    scale = vae.config["scaling_factor"]
    expected = torch.cat([posterior.mean * scale, posterior.std * scale], dim=1)
    assert torch.allclose(cache.read(batch), expected, atol=1e-5)
    assert len(names(tmp_path / "latents")) == 4  # one file a bucket


def test_what_is_there_is_not_encoded_again(
    open_set: OpenSet, vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pictures = open_set().training
    rows = latent_cache(pictures, vae, tmp_path / "latents").read([0, 4])
    monkeypatch.setattr(vae, "encode", None)
    assert torch.equal(latent_cache(pictures, vae, tmp_path / "latents").read([0, 4]), rows)


def test_an_interrupted_cache_ends_up_with_the_same_bits(
    open_set: OpenSet, vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pictures = open_set().training
    whole = latent_cache(pictures, vae, tmp_path / "whole", batch_size=2)
    encode, calls = vae.encode, []

    def interrupted(batch: torch.Tensor) -> Any:
        calls.append(len(batch))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(vae, "encode", interrupted)
        latent_cache(pictures, vae, tmp_path / "torn", batch_size=2)
    torn = latent_cache(pictures, vae, tmp_path / "torn", batch_size=2)
    for index in range(20):
        assert torch.equal(torn.read([index]), whole.read([index]))


def test_other_weights_pixels_or_number_types_make_other_files(
    folder: Path, open_set: OpenSet, tmp_path: Path
):
    cache, vae = tmp_path / "latents", make_vae().eval()
    latent_cache(open_set().training, vae, cache)
    first = names(cache)
    latent_cache(open_set(template="{style}").training, vae, cache)
    assert names(cache) == first  # captions do not matter
    latent_cache(open_set(background="red").training, vae, cache)
    assert len(names(cache)) == 8  # transparent pictures are in every bucket
    (folder / "01.png").write_bytes(encoded(drawing(128, 72, number=1000)))
    latent_cache(open_set().training, vae, cache)
    assert len(names(cache)) == 9  # one bucket
    with torch.no_grad():
        next(vae.parameters()).mul_(1.5)
    latent_cache(open_set().training, vae, cache)
    assert len(names(cache)) == 13
    latent_cache(open_set().training, vae, cache, dtype=torch.float32)
    assert len(names(cache)) == 17


def test_samples_of_two_buckets_are_no_batch(open_set: OpenSet, vae: Any, tmp_path: Path):
    cache = latent_cache(open_set().training, vae, tmp_path)
    with pytest.raises(ValueError, match=r"indices=\[0, 1\]: lie in 2 buckets; give those of one"):
        cache.read([0, 1])


def test_latents_that_are_no_numbers_are_refused(open_set: OpenSet, tmp_path: Path):
    vae = make_vae().eval()
    with torch.no_grad():
        next(vae.parameters()).fill_(torch.nan)
    with pytest.raises(
        ValueError, match="the latents of 00.png are no finite numbers; load the VAE in float32"
    ):
        latent_cache(open_set().training, vae, tmp_path)
