"""Pictures and masks to tensors and back: opening foreign files safely, checking, padding, contact sheets.

Knows nothing of the VAE, of latents or of where a picture is saved. Tensors hold pictures in [0, 1].
"""

import math
import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

PictureInput = Image.Image | np.ndarray | Tensor | Sequence[Any]
"""One picture or a sequence: PIL, numpy (height width [channels]) or torch (channels height width)."""

OPENED_FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_PIXELS = 64 * 1024 * 1024


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

    PIL pictures of any mode (transparent parts become white), uint8 arrays in 0..255, floating arrays and
    tensors in [0, 1]; tensors that reach below 0 are read as [-1, 1]. `size` (height, width) resizes them.
    ValueError for anything else, and for pictures of different sizes.
    """
    pictures = [_one_picture(item, "image") for item in _items(image, "image", one_picture_dims=3)]
    pictures = [_resized(picture, size, Image.Resampling.LANCZOS) for picture in pictures]
    return _stacked(pictures, "image")


def as_masks(mask: PictureInput, *, size: tuple[int, int] | None = None) -> Tensor:
    """Turn one or more masks into float32 (masks 1 height width) of 0 (keep) and 1 (paint anew).

    White, or anything from a half up, is painted anew; colors are made gray first. ValueErrors as above.
    """
    masks = [_one_picture(item, "mask_image") for item in _items(mask, "mask_image", one_picture_dims=2)]
    masks = [_resized(one, size, Image.Resampling.NEAREST) for one in masks]
    grey = _stacked(masks, "mask_image")
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    return ((grey * weights).sum(1, keepdim=True) >= 0.5).to(torch.float32)


def picture_and_mask(
    image: PictureInput | None, mask_image: PictureInput | None, *, size: tuple[int | None, int | None]
) -> tuple[Tensor | None, Tensor | None]:
    """Read a call's `image` and `mask_image`, resized where `size` (height, width) names both sides.

    ValueError for a mask without a picture, a mask of another size, and only one side given.
    """
    if image is None:
        if mask_image is not None:
            raise ValueError("mask_image was given without image: give the picture it masks")
        return None, None
    height, width = size
    if (height is None) != (width is None):
        raise ValueError(
            f"height={height} and width={width}: give both to resize image, or neither to keep its size"
        )
    whole = None if height is None or width is None else (height, width)
    unresized = as_pictures(image)
    picture = unresized if whole is None else as_pictures(image, size=whole)
    if mask_image is None:
        return picture, None
    mask = as_masks(mask_image)
    if mask.shape[-2:] != unresized.shape[-2:]:
        (mask_height, mask_width), (height, width) = mask.shape[-2:], unresized.shape[-2:]
        raise ValueError(
            f"mask_image is {mask_width} x {mask_height} pixels but image is {width} x {height}:"
            " give a mask of the image's size"
        )
    return picture, mask if whole is None else as_masks(mask_image, size=whole)


def padded(picture: Tensor, factor: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of `factor`; the top left stays."""
    height, width = picture.shape[-2:]
    spare = (0, -width % factor, 0, -height % factor)
    return torch.nn.functional.pad(picture, spare, mode="replicate") if any(spare) else picture


def per_picture(tensor: Tensor, *, pictures: int, prompts: int, name: str) -> Tensor:
    """Spread one tensor per request, per prompt or per picture over all pictures, prompt-major."""
    given = len(tensor)
    if given not in (1, prompts, pictures):
        raise ValueError(f"{name} holds {given} for {prompts} prompts: give one, or one per prompt")
    return tensor.repeat_interleave(pictures // given, dim=0)


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


def _stacked(pictures: list[Tensor], name: str) -> Tensor:
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(
            f"{name} holds pictures of different sizes (height, width) {sorted(sizes)}: give one size"
        )
    return torch.stack(pictures)
