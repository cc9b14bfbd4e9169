"""Pictures of a class, drawn by the base before it is changed, so that learning one thing keeps the others.

Knows nothing of the run. Source: prior preservation, arXiv 2208.12242.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm_pipeline.images import contact_sheet
from training.bases import Base
from training.data.cache import cached
from training.finetune_batches import ClassPictures
from training.loop import fingerprint

AT_ONCE = 4
SEED = 1_000_000
"""Of the first class picture, far from the seeds of previews."""


def draw_class_pictures(
    base: Base, *, prompt: str, count: int, size: tuple[int, int], steps: int | None, key: str, folder: Path
) -> ClassPictures:
    """Draw what is not in `folder` yet; picture i has the seed `SEED` + i.

    Args:
        size: height and width in pixels.
        key: of the base's weights.
    """

    def make(first: int, last: int) -> Tensor:
        return drawn_latents(
            base.pipeline, [prompt] * (last - first), range(SEED + first, SEED + last), size=size, steps=steps
        )

    name = fingerprint(key, prompt, list(size), steps)[:12]
    path = folder / f"class-{name}-{count}.npy"
    latents = cached(path, make, count=count, batch_size=AT_ONCE, title=f"pictures of {prompt!r}")
    return ClassPictures(latents=latents, prompt=prompt)


def class_sheet(base: Base, pictures: ClassPictures, *, most: int = 16) -> Image.Image:
    """A sheet of the first of them."""
    chosen = torch.from_numpy(np.array(pictures.latents[:most])).float()
    return contact_sheet(decoded(base.pipeline, chosen), columns=4)


def drawn_latents(
    pipeline: Any,
    prompts: list[str],
    seeds: range,
    *,
    size: tuple[int, int],
    steps: int | None = None,
    guidance: float | None = None,
) -> Tensor:
    """Latents [prompts, c, h, w] in float32 of pictures as the pipeline draws them, scaled as in training."""
    drawn = pipeline(
        prompts,
        seed=list(seeds),
        height=size[0],
        width=size[1],
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="latent",
        exact=False,
    ).images
    assert isinstance(drawn, Tensor)
    return drawn.detach().float().cpu()


@torch.no_grad()
def decoded(pipeline: Any, latents: Tensor) -> list[Image.Image]:
    """Pictures of latents, decoded one by one."""
    vae, pictures = pipeline.vae, []
    for row in latents:
        pixels = vae.decode((row[None] / vae.config.scaling_factor).to(vae.device)).sample
        pictures += pipeline.image_processor.postprocess(pixels.float().cpu(), output_type="pil")
    return pictures
