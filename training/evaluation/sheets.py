"""Contact sheets for people: pictures in a grid with their prompts beneath, as small PNG and WebP files.

Knows nothing of scores, and picks nothing: it shows the pictures that it is given, in their order.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LARGEST_PNG_BYTES = 1_500_000
FONT_PIXELS, LINE_PIXELS, GAP_PIXELS, NARROWEST_CELL = 10, 12, 6, 120


def captioned_sheet(pictures: NDArray[np.uint8], captions: Sequence[str], *, columns: int = 8) -> Image.Image:
    """Pictures n x height x width x 3 row by row, each with its caption wrapped beneath it.

    Raises:
        ValueError: another number of captions than pictures.
    """
    if len(pictures) != len(captions):
        raise ValueError(f"captions has {len(captions)} texts for {len(pictures)} pictures: give one each.")
    height, width = pictures.shape[1:3]
    cell = max(width, NARROWEST_CELL)
    texts = [wrapped(caption, cell) for caption in captions]
    rows = [range(first, min(first + columns, len(pictures))) for first in range(0, len(pictures), columns)]
    heights = [height + max(len(texts[i]) for i in row) * LINE_PIXELS + 2 * GAP_PIXELS for row in rows]
    across = min(columns, len(pictures))
    sheet = Image.new("RGB", (across * (cell + GAP_PIXELS) + GAP_PIXELS, sum(heights) + GAP_PIXELS), "white")
    pen, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PIXELS), GAP_PIXELS
    for row, row_height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = GAP_PIXELS + column * (cell + GAP_PIXELS)
            sheet.paste(Image.fromarray(pictures[i]), (left + (cell - width) // 2, top))
            for number, line in enumerate(texts[i]):
                pen.text((left, top + height + 2 + number * LINE_PIXELS), line, font=font, fill=(40, 40, 40))
        top += row_height
    return sheet


def pair_sheet(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, captions: Sequence[str], titles: tuple[str, str]
) -> Image.Image:
    """Two rows, a column for each prompt and seed: `first` above `second`, a title above each row."""
    upper = captioned_sheet(first, [""] * len(first), columns=len(first))
    lower = captioned_sheet(second, captions, columns=len(second))
    band = LINE_PIXELS + GAP_PIXELS
    sheet = Image.new("RGB", (lower.width, upper.height + lower.height + 2 * band), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PIXELS + 2)
    for title, rows, top in zip(titles, (upper, lower), (0, band + upper.height), strict=True):
        pen.text((GAP_PIXELS, top + GAP_PIXELS // 2), title, font=font, fill="black")
        sheet.paste(rows, (0, top + band))
    return sheet


def wrapped(text: str, width_pixels: int) -> list[str]:
    """Break a text between words into lines that fit; a longer word stands alone on its line."""
    font, lines = ImageFont.load_default(FONT_PIXELS), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_pixels:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write `path` (PNG, with 256 colors if it would exceed 1.5 MB) and a WebP of quality 85 beside it."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    if buffer.tell() > LARGEST_PNG_BYTES:
        buffer = io.BytesIO()
        sheet.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    path.write_bytes(buffer.getvalue())
    sheet.save(path.with_suffix(".webp"), "WEBP", quality=85, method=6)
