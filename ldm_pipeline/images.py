"""Pictures and masks to tensors and back: opening foreign files safely, checking, cutting out, blending.

Knows nothing of the VAE, of how latents are made or of where a picture is saved. Pictures are in [0, 1].
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torch.nn import functional

from ldm_pipeline.containers import LARGEST_PIXELS

PictureInput = Image.Image | np.ndarray | Tensor | Sequence[Any]
"""One picture or a sequence: PIL, numpy (height width [channels]) or torch (channels height width)."""

OPENED_FORMATS = ("PNG", "JPEG", "WEBP")

SURELY = 0.03
"""Mask values this near to 0 or 1 count as 0 or 1: the black of a JPEG file is rarely 0."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, as in PIL."""


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """The surroundings of a mask, at the size they are painted at."""

    picture: Float[Tensor, "batch 3 height width"]
    mask: Float[Tensor, "batch 1 height width"]
    boxes: tuple[Box, ...]
    """Where each row was cut out of the whole picture."""


def open_picture(path: str | PathLike[str]) -> Image.Image:
    """Open a PNG, JPEG or WebP file as an upright RGB picture; transparent parts become white.

    ValueError for another format, for more than 64 megapixels (read from the header, before decoding), for
    several frames, and for a file that cannot be decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=OPENED_FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PIXELS:
                    raise ValueError(
                        f"{path} has {picture.width} x {picture.height} pixels: use at most 64 megapixels"
                    )
                frames = getattr(picture, "n_frames", 1)
                if frames != 1:
                    raise ValueError(f"{path} holds {frames} frames: use a still picture")
                picture.load()
                return _rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give the path of a picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} cannot be opened as PNG, JPEG or WebP: {error}") from None


def as_pictures(image: PictureInput, *, size: tuple[int, int] | None = None) -> Tensor:
    """Turn one or more pictures into float32 (pictures 3 height width) in [0, 1].

    PIL pictures of any mode (transparent parts become white), uint8 arrays and tensors in 0..255 (RGBA too),
    floating ones in [0, 1]; tensors that reach below 0 are read as [-1, 1]. `size` (height, width) resizes
    them. ValueError for anything else, and for pictures of different sizes.
    """
    pictures = [_one_picture(item, "image") for item in _items(image, "image", one_picture_dims=3)]
    pictures = [_resized(picture, size, Image.Resampling.LANCZOS) for picture in pictures]
    return _stacked(pictures, "image")


def as_latents(image: Any, channels: int) -> Tensor | None:
    """Give `image` as latents (pictures channels rows columns) if it is latents, None if it is pictures.

    Latents are floating tensors, or a list of them, with the VAE's number of channels in the third place from
    the end. One or three channels are always a picture; four that mean RGBA come as PIL or uint8.
    """
    items = list(image) if isinstance(image, list | tuple) else [image]
    if channels in (1, 3) or not items or not all(_has_channels(item, channels) for item in items):
        return None
    batches = [item if item.ndim == 4 else item[None] for item in items]
    if len(sizes := {tuple(batch.shape[-2:]) for batch in batches}) > 1:
        raise ValueError(f"image holds latents of different sizes {sorted(sizes)}: give one size")
    return batches[0] if len(batches) == 1 else torch.cat(batches)


def as_masks(
    mask: PictureInput,
    *,
    size: tuple[int, int] | None = None,
    soft: bool = False,
    resample: Image.Resampling = Image.Resampling.NEAREST,
) -> Tensor:
    """Turn one or more masks into float32 (masks 1 height width): 0 is kept, 1 is painted anew.

    Anything from a half up is 1, the rest 0; with `soft` gray stays gray, but for what is `SURELY` 0 or 1.
    Colors are made gray first. ValueErrors as above.
    """
    masks = [_one_picture(item, "mask_image") for item in _items(mask, "mask_image", one_picture_dims=2)]
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    levels = [(_resized(one, size, resample) * weights).sum(0, keepdim=True) for one in masks]
    gray = _stacked(levels, "mask_image")
    if not soft:
        return (gray >= 0.5).to(torch.float32)
    return torch.where(gray < SURELY, 0.0, torch.where(gray > 1 - SURELY, 1.0, gray))


def picture_and_mask(
    image: PictureInput | None,
    mask_image: PictureInput | None,
    *,
    size: tuple[int | None, int | None],
    factor: int = 8,
    soft: bool = False,
    blend: str = "exact",
) -> tuple[Tensor | None, Tensor | None]:
    """Read a call's `image` and `mask_image`, resized to `size` (height, width).

    Where only one side is given the other keeps the picture's aspect ratio, to the nearest multiple of
    `factor`. With `blend="none"` the mask is resized and rounded as in diffusers, otherwise gray stays if
    `soft`. ValueError for a mask without a picture, and for a mask of another size.
    """
    if image is None:
        if mask_image is not None:
            raise ValueError("mask_image was given without image: give the picture it masks")
        return None, None
    soft = soft and blend != "none"
    unresized = as_pictures(image)
    own = (unresized.shape[-2], unresized.shape[-1])
    whole = whole_size(own, size, factor=factor)
    picture = unresized if whole == own else as_pictures(image, size=whole)
    if mask_image is None:
        return picture, None
    mask = as_masks(mask_image, soft=soft)
    if mask.shape[-2:] != unresized.shape[-2:]:
        (mask_height, mask_width), (height, width) = mask.shape[-2:], own
        raise ValueError(
            f"mask_image is {mask_width} x {mask_height} pixels but image is {width} x {height}:"
            " give a mask of the image's size"
        )
    if whole != own:
        resample = Image.Resampling.LANCZOS if blend == "none" else Image.Resampling.NEAREST
        mask = as_masks(mask_image, size=whole, soft=soft, resample=resample)
    return picture, mask


def whole_size(
    own: tuple[int, int], wanted: tuple[int | None, int | None], *, factor: int
) -> tuple[int, int]:
    """Complete a wanted (height, width) by the picture's `own` size, or by its aspect ratio."""
    height, width = wanted
    if height is not None and width is not None:
        return height, width
    if height is not None:
        return height, max(1, round(height * own[1] / own[0] / factor)) * factor
    if width is not None:
        return max(1, round(width * own[0] / own[1] / factor)) * factor, width
    return own


def cut_out(
    picture: Float[Tensor, "pictures 3 height width"],
    mask: Float[Tensor, "masks 1 height width"],
    *,
    size: tuple[int, int],
    padding: int,
) -> Cutout:
    """Cut the surroundings of each mask out of the picture and bring them to `size` (height, width).

    As in diffusers: `padding` pixels around all that is not black, widened to the shape of `size` as far as
    the picture reaches. A mask of 0 and 1 stays one. ValueError for a mask that is all black.
    """
    if not mask.flatten(1).any(1).all():
        raise ValueError("mask_image is black all over: paint white what padding_mask_crop is to surround")
    rows, (height, width) = max(len(picture), len(mask)), size
    pictures, masks = to_pil(spread(picture, rows)), to_pil(spread(mask, rows).expand(-1, 3, -1, -1))
    frame = VaeImageProcessor()
    boxes: list[Box] = [frame.get_crop_region(one, width, height, pad=padding) for one in masks]

    def cut(wholes: list[Image.Image]) -> Tensor:
        parts = [whole.crop(box) for whole, box in zip(wholes, boxes, strict=True)]
        return as_pictures([frame.resize(part, height, width, resize_mode="fill") for part in parts])

    gray = cut(masks)[:, :1]
    soft = spread(((mask > 0) & (mask < 1)).flatten(1).any(1), rows).reshape(-1, 1, 1, 1)
    return Cutout(
        picture=cut(pictures),
        mask=torch.where(soft, gray, (gray >= 0.5).to(gray.dtype)),
        boxes=tuple(boxes),
    )


def paste_back(
    drawn: Float[Tensor, "batch 3 rows columns"],
    picture: Float[Tensor, "pictures 3 height width"],
    boxes: Sequence[Box],
) -> Float[Tensor, "batch 3 height width"]:
    """Put what was drawn at a cutout's size back into a copy of the whole picture.

    Resizing goes through eight bits, as in diffusers; what lies outside the box stays as it was.
    """
    pasted = picture.repeat_interleave(len(drawn) // len(picture), dim=0)
    frame = VaeImageProcessor()
    for i, one in enumerate(drawn):
        left, top, right, bottom = boxes[i * len(boxes) // len(drawn)]
        patch = one.cpu()
        if patch.shape[-2:] != (bottom - top, right - left):
            whole = to_pil(one[None])[0]
            patch = as_pictures(frame.resize(whole, bottom - top, right - left, resize_mode="crop"))[0]
        pasted[i, :, top:bottom, left:right] = patch
    return pasted


def blended(
    drawn: Float[Tensor, "batch 3 height width"],
    picture: Float[Tensor, "pictures 3 height width"],
    mask: Float[Tensor, "masks 1 height width"],
    *,
    blend: str,
    reach: int,
) -> Float[Tensor, "batch 3 height width"]:
    """Restore what the mask keeps: pixels where it is 0 equal the picture's to the bit.

    "exact": a hard edge. "feather": around the mask the drawn pixels fade into the picture's over twice
    `reach` pixels; beyond they are equal to the bit. "none": what was drawn stays, as in diffusers.
    """
    if blend == "none":
        return drawn
    kept, mask = (spread(one, len(drawn)).to(drawn) for one in (picture, mask))
    if blend == "exact":
        return torch.where(mask > 0, drawn, kept)
    faded = []  # one by one, so that no picture's last bits depend on its neighbors
    for under, over, painted in zip(*(one.split(1) for one in (kept, drawn, mask)), strict=True):
        share = feathered(painted, reach=reach)
        faded.append(torch.where(share > 0, torch.lerp(under, over.contiguous(), share), under))
    return torch.cat(faded)


def feathered(
    mask: Float[Tensor, "batch 1 height width"], *, reach: int
) -> Float[Tensor, "batch 1 height width"]:
    """Soften a mask's edge outwards: 1 wherever the mask is not 0, falling to 0 within twice `reach` pixels.

    The mask is widened by `reach`, then blurred by a Gaussian that is cut off at `reach`, two of its standard
    deviations. Outwards, because there what was drawn and what was kept differ by the VAE's losses only;
    inwards the old content would shine through.
    """
    painted = (mask > 0).to(mask.dtype)
    wide = functional.max_pool2d(painted, 2 * reach + 1, stride=1, padding=reach)
    offsets = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    bell = torch.exp(-2.0 * (offsets / reach) ** 2)
    bell = bell / bell.sum()
    wide = functional.pad(wide, (reach,) * 4, mode="replicate")
    blurred = functional.conv2d(functional.conv2d(wide, bell.reshape(1, 1, 1, -1)), bell.reshape(1, 1, -1, 1))
    return torch.where(painted > 0, painted, blurred.clamp(0, 1))


def padded(picture: Tensor, factor: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of `factor`; the top left stays."""
    height, width = picture.shape[-2:]
    spare = (0, -width % factor, 0, -height % factor)
    return functional.pad(picture, spare, mode="replicate") if any(spare) else picture


def spread(tensor: Tensor, rows: int) -> Tensor:
    """Repeat each row in its place until there are `rows`; no copy where there are."""
    return tensor if len(tensor) == rows else tensor.repeat_interleave(rows // len(tensor), dim=0)


def to_pil(picture: Tensor) -> list[Image.Image]:
    """Turn (pictures 3 height width) in [0, 1] into PIL pictures; n / 255 comes out as exactly n."""
    levels = (picture.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(one) for one in levels.permute(0, 2, 3, 1).cpu().numpy()]


def contact_sheet(
    pictures: Sequence[Image.Image],
    *,
    columns: int | None = None,
    captions: Sequence[str] = (),
    gap_pixels: int = 4,
) -> Image.Image:
    """Lay pictures of one size out in a grid, row by row, with an optional line of text under each.

    `columns` defaults to a nearly square grid. ValueError for no pictures, or another number of captions.
    """
    if not pictures:
        raise ValueError("pictures is empty: give at least one picture")
    if captions and len(captions) != len(pictures):
        raise ValueError(f"captions has {len(captions)} texts for {len(pictures)} pictures: give one each")
    across = columns or math.ceil(math.sqrt(len(pictures)))
    width, height = pictures[0].size
    line_pixels = 14 if captions else 0
    rows = math.ceil(len(pictures) / across)
    sheet = Image.new(
        "RGB",
        (across * (width + gap_pixels) + gap_pixels, rows * (height + line_pixels + gap_pixels) + gap_pixels),
        "white",
    )
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        left = gap_pixels + (i % across) * (width + gap_pixels)
        top = gap_pixels + (i // across) * (height + line_pixels + gap_pixels)
        sheet.paste(picture, (left, top))
        if captions:
            text = captions[i]
            while text and pen.textlength(text) > width:
                text = text[:-1]
            pen.text((left, top + height + 1), text, fill="black")
    return sheet


def _rgb(picture: Image.Image) -> Image.Image:
    if "A" in picture.getbands() or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _items(image: PictureInput, name: str, *, one_picture_dims: int) -> list[Any]:
    """Split a batch into single pictures."""
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, np.ndarray | Tensor):
        if image.ndim == 4 or (
            image.ndim == 3 and one_picture_dims == 2 and image.shape[-1] not in (1, 3, 4)
        ):
            return list(image)
        return [image]
    if isinstance(image, Sequence) and not isinstance(image, str | bytes) and image:
        return list(image)
    raise ValueError(
        f"{name} is a {type(image).__name__}: give a PIL picture, an array, a tensor, or a list of them"
    )


def _one_picture(item: Any, name: str) -> Tensor:
    """Give one picture as float32 (3 height width) in [0, 1]."""
    if isinstance(item, Image.Image):
        return torch.from_numpy(np.array(_rgb(item), dtype=np.float32) / 255.0).permute(2, 0, 1)
    if isinstance(item, Tensor) and item.dtype == torch.uint8 and item.ndim == 3 and item.shape[0] == 4:
        item = item.permute(1, 2, 0).cpu().numpy()
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 4:
        return _one_picture(Image.fromarray(item), name)
    if isinstance(item, np.ndarray):
        levels = item.astype(np.float32) / 255.0 if item.dtype == np.uint8 else item.astype(np.float32)
        channels_last = torch.from_numpy(levels if levels.ndim == 3 else levels[..., None])
        picture = channels_last.permute(2, 0, 1)
    elif isinstance(item, Tensor):
        picture = item.detach().cpu()
        picture = picture.float() / 255.0 if picture.dtype == torch.uint8 else picture.float()
        picture = picture if picture.ndim == 3 else picture[None]
    else:
        raise ValueError(f"{name} holds a {type(item).__name__}: give PIL pictures, arrays or tensors")
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(
            f"{name} has shape {tuple(item.shape)}: give 1 or 3 channels (torch: first, numpy: last)"
        )
    if not torch.isfinite(picture).all() or picture.min() < -1 or picture.max() > 1:
        raise ValueError(f"{name} holds values outside [0, 1]: scale it (uint8 arrays may reach 255)")
    if picture.min() < 0:
        picture = picture * 0.5 + 0.5
    return picture.expand(3, -1, -1)


def _resized(picture: Tensor, size: tuple[int, int] | None, filter: Image.Resampling) -> Tensor:
    if size is None or tuple(picture.shape[1:]) == size:
        return picture
    return _one_picture(to_pil(picture[None])[0].resize((size[1], size[0]), filter), "image")


def _has_channels(item: Any, channels: int) -> bool:
    floating = isinstance(item, Tensor) and item.is_floating_point()
    return floating and item.ndim in (3, 4) and item.shape[-3] == channels


def _stacked(pictures: list[Tensor], name: str) -> Tensor:
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"{name} holds pictures of different sizes (height, width) {sorted(sizes)}: give one size"
        )
    return torch.stack(pictures)
