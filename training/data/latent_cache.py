"""A picture set and a VAE -> the latents of every picture on disk, one file a bucket.

Knows nothing of noise: what is kept is the posterior's mean and standard deviation, drawn from at each step.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL  # type: ignore[attr-defined]
from jaxtyping import Float
from torch import Tensor

from training.data.cache import content_key
from training.data.found import digest_of
from training.data.picture_set import PictureSet
from training.data.row_store import RowStore, stored_rows

LAYOUT = "(mean - shift) * scale, std * scale"
"""What a row holds, in words that change when it does."""


class LatentCache:
    """The latents of a picture set's samples."""

    def __init__(self, stores: dict[int, RowStore], rows: dict[int, tuple[int, int]]):
        self._stores, self._rows = stores, rows

    def read(self, indices: Sequence[int]) -> Float[Tensor, "batch twice_channels rows columns"]:
        """Scaled posterior means, then standard deviations, of samples of one bucket, as float32.

        Raises:
            ValueError: samples of several buckets, or a row that the disk has damaged.
        """
        buckets = {self._rows[index][0] for index in indices}
        if len(buckets) != 1:
            raise ValueError(f"indices={list(indices)}: lie in {len(buckets)} buckets; give those of one.")
        return self._stores[buckets.pop()].read([self._rows[index][1] for index in indices])


def latent_cache(
    picture_set: PictureSet,
    vae: AutoencoderKL,
    folder: Path,
    *,
    batch_size: int = 8,
    dtype: torch.dtype = torch.float16,
) -> LatentCache:
    """Encode what is missing of a picture set, and open it.

    The file names carry the content behind them: pixels, what is done to them, weights, dtype. Crops are in
    the middle, and a random background is a color of the picture's own, see `PictureSet.tensor`.

    Args:
        vae: encodes in its own dtype, where it is.
    Raises:
        ValueError: a latent that is no finite number, a picture that changed, or a file made from something
            else under the name of this one.
        OSError: the disk is full; what is made so far stays.
    """
    weights = content_key(vae)
    scale, shift = vae.config["scaling_factor"], vae.config.get("shift_factor") or 0.0
    stores: dict[int, RowStore] = {}
    rows: dict[int, tuple[int, int]] = {}
    for bucket, (height, width) in enumerate(picture_set.sizes):
        members = picture_set.members(bucket)
        if not members:
            continue
        facts = {
            "pictures": digest_of([picture_set.pixels_key(index) for index in members]),
            "weights": weights,
            "scale": [scale, shift],
            "layout": LAYOUT,
            "dtype": str(dtype),
        }

        def make(first: int, last: int, members: list[int] = members) -> Tensor:
            return _encoded(picture_set, members[first:last], vae, scale=scale, shift=shift)

        stores[bucket] = stored_rows(
            folder / f"latents-{height}x{width}-{digest_of(facts)}.npy",
            make,
            count=len(members),
            batch_size=batch_size,
            facts=facts,
            title=f"latents {width} x {height}",
            dtype=dtype,
        )
        rows |= {index: (bucket, row) for row, index in enumerate(members)}
    return LatentCache(stores, rows)


@torch.no_grad()
def _encoded(
    picture_set: PictureSet, indices: list[int], vae: AutoencoderKL, *, scale: float, shift: float
) -> Tensor:
    pictures = torch.stack([picture_set.tensor(index) for index in indices])
    posterior = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist  # type: ignore[union-attr]
    latents = torch.cat([(posterior.mean - shift) * scale, posterior.std * scale], dim=1).float()
    finite = torch.isfinite(latents).flatten(1).all(dim=1)
    if not finite.all():
        name = picture_set.name(indices[int(finite.logical_not().nonzero()[0])])
        raise ValueError(f"vae: the latents of {name} are no finite numbers; load the VAE in float32.")
    return latents
