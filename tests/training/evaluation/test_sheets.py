"""Contact sheets: layout, wrapping and file size; it knows no scores."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from training.evaluation import sheets
from training.evaluation.sheets import FONT_PIXELS, LARGEST_PNG_BYTES, captioned_sheet, save_sheet, wrapped


def grey(count: int, size: int = 128) -> np.ndarray:
    return np.stack([np.full((size, size, 3), 10 * i, np.uint8) for i in range(count)])


def test_pictures_stand_in_their_order_row_by_row():
    sheet = np.asarray(captioned_sheet(grey(5), ["a dog"] * 5, columns=3))
    cell = 128 + sheets.GAP_PIXELS
    row = 128 + sheets.LINE_PIXELS + 2 * sheets.GAP_PIXELS
    shown = [sheet[row * (i // 3) + 40, cell * (i % 3) + 40, 0] for i in range(5)]
    assert shown == [0, 10, 20, 30, 40]


def test_captions_break_between_words_and_fit():
    text = "a rainy evening in San Francisco with two red dogs on the left side"
    lines = wrapped(text, 128)
    font = ImageFont.load_default(FONT_PIXELS)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 128 for line in lines)


def test_every_picture_needs_a_caption():
    with pytest.raises(ValueError, match="captions has 1 texts for 2 pictures"):
        captioned_sheet(grey(2), ["a dog"])


def test_a_noisy_sheet_is_written_with_fewer_colors_to_stay_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), dtype=np.uint8)
    save_sheet(Image.fromarray(noise), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size < LARGEST_PNG_BYTES
    assert (tmp_path / "sheet.webp").is_file()
