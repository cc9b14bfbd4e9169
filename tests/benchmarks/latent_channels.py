"""How much of a picture a VAE's latents hold, against linear projections of patches to as many numbers.

Run by hand: `python tests/benchmarks/latent_channels.py [FOLDER] [--pictures 768]`. It asserts no score.

A linear projection (PCA) of patches is what a VAE of as many channels should beat; a PCA of what the VAE
loses tells how much more channels of the crudest kind would bring.
"""

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ldm_pipeline.folder import bundled_folder
from training.data.postcards import PostcardConfig, render_postcards
from training.networks import VAE_FACTOR
from training.pictures import picture_tensor
from training.recipes import POSTCARDS128
from training.vae import opened, psnr, reconstruct

STREAM = 2
"""Of validation: no VAE was trained on it."""
COMPONENTS = (4, 8, 16, 24)
COVERED = 0.3
"""Share of a cell that things cover, from which on it counts as a place where things stand."""


def main() -> None:
    """Print PSNR of whole pictures and of the cells where things stand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=bundled_folder("postcards"))
    parser.add_argument("--pictures", type=int, default=768)
    options = parser.parse_args()
    config = PostcardConfig(world=POSTCARDS128.world, seed=STREAM, count=options.pictures)
    with tempfile.TemporaryDirectory() as root:
        cards = render_postcards(config, Path(root))
        everything = list(range(len(cards)))
        pictures = picture_tensor(cards.images(everything))
        things = torch.from_numpy(cards.thing_shares(everything)).flatten(1) > COVERED
    vae = opened(options.folder / "vae")
    decoded = reconstruct(vae, pictures)
    print("| kept | PSNR, dB | where things stand |\n| --- | --- | --- |")
    print(row(f"the VAE, {vae.config['latent_channels']} channels", decoded, pictures, things))
    for name, start in (("PCA", torch.zeros_like(pictures)), ("the VAE and PCA of its loss", decoded)):
        basis, mean = components(pictures - start)
        for count in COMPONENTS:
            kept = start + projected(pictures - start, basis[:, :count], mean)
            print(row(f"{name}, {count} numbers", kept, pictures, things))


def row(name: str, kept: Tensor, pictures: Tensor, things: Tensor) -> str:
    errors = patches((kept.clamp(-1, 1) - pictures) ** 2).mean(dim=2)
    of_things = 10 * math.log10(4 / float(errors[things].mean()))
    return f"| {name} | {psnr(kept, pictures):.2f} | {of_things:.2f} |"


def patches(pictures: Tensor) -> Tensor:
    """[n, patches, 3 x 8 x 8] of [n, 3, height, width]."""
    return F.unfold(pictures, VAE_FACTOR, stride=VAE_FACTOR).transpose(1, 2)


def components(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Principal directions of the patches, most important first, in columns; and their mean."""
    rows = patches(pictures).flatten(0, 1)
    mean = rows.mean(dim=0)
    covariance = (rows - mean).T.double() @ (rows - mean).double()
    return torch.linalg.eigh(covariance).eigenvectors.flip(1).float(), mean


def projected(pictures: Tensor, basis: Tensor, mean: Tensor) -> Tensor:
    """The pictures' patches in the span of `basis` only."""
    rows = (patches(pictures) - mean) @ basis @ basis.T + mean
    size = pictures.shape[2:]
    return F.fold(rows.transpose(1, 2), tuple(size), VAE_FACTOR, stride=VAE_FACTOR)


if __name__ == "__main__":
    main()
