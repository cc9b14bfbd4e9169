"""Pictures and masks come in by many doors, leave unchanged, and are refused when they are something else."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_pipeline import images


def gradient(width: int = 16, height: int = 8) -> Image.Image:
    levels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(levels)


def test_every_kind_of_input_gives_the_same_tensor():
    levels = np.array(gradient())
    expected = torch.from_numpy(levels).permute(2, 0, 1)[None] / 255
    forms = [
        gradient(),
        [gradient()],
        levels,
        levels[None],
        levels.astype(np.float32) / 255,
        expected,
        expected[0],
        [expected[0]],
    ]
    for form in forms:
        assert torch.equal(images.as_pictures(form), expected)
    torch.testing.assert_close(images.as_pictures(expected * 2 - 1), expected)


def test_eight_bit_levels_come_back_exactly():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    back = images.to_pil(images.as_pictures(Image.fromarray(levels)))[0]
    assert np.array_equal(np.array(back), levels)


def test_transparent_parts_become_white():
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert images.as_pictures(clear).min() == 1.0


def test_masks_are_zero_and_one_and_a_half_is_painted():
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8))
    assert images.as_masks(grey).tolist() == [[[[0, 0, 1, 1]]]]
    assert images.as_masks(np.array([[0.0, 1.0]])).tolist() == [[[[0, 1]]]]
    assert images.as_masks(torch.tensor([[[0.0, 1.0]]])).shape == (1, 1, 1, 2)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("picture.png", "image is a str"),
        ([], "image is a list"),
        ([3], "image holds a int"),
        (torch.zeros(4, 8, 8), "1 or 3 channels"),
        (torch.full((3, 8, 8), 7.0), "outside [0, 1]"),
        (torch.full((3, 8, 8), float("nan")), "outside [0, 1]"),
        ([gradient(), gradient(24)], "different sizes"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(bad, words):
    with pytest.raises(ValueError) as caught:
        images.as_pictures(bad)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_mask_needs_a_picture_of_its_size():
    with pytest.raises(ValueError, match="mask_image was given without image"):
        images.picture_and_mask(None, gradient(), size=(None, None))
    with pytest.raises(ValueError, match="mask_image is 24 x 8 pixels but image is 16 x 8"):
        images.picture_and_mask(gradient(), gradient(24), size=(None, None))
    with pytest.raises(ValueError, match="height=64 and width=None"):
        images.picture_and_mask(gradient(), None, size=(64, None))


def test_a_named_size_resizes_picture_and_mask():
    picture, mask = images.picture_and_mask(gradient(), gradient(), size=(16, 32))
    assert picture is not None and mask is not None
    assert picture.shape == (1, 3, 16, 32) and mask.shape == (1, 1, 16, 32)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_padding_repeats_the_edge_and_leaves_the_top_left_in_place():
    picture = images.as_pictures(gradient(13, 9))
    wide = images.padded(picture, 8)
    assert wide.shape == (1, 3, 16, 16)
    assert torch.equal(wide[..., :9, :13], picture)
    assert torch.equal(wide[..., :9, 15], picture[..., 12])
    assert images.padded(wide, 8) is wide


def test_pictures_are_spread_prompt_major():
    two = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    assert images.per_picture(two, pictures=4, prompts=2, name="image").flatten().tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="image holds 2 for 3 prompts"):
        images.per_picture(two, pictures=3, prompts=3, name="image")


def test_a_file_is_opened_upright_and_in_rgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    gradient().save(tmp_path / "turned.jpg", exif=exif)
    opened = images.open_picture(tmp_path / "turned.jpg")
    assert opened.size == (8, 16) and opened.mode == "RGB"


def test_foreign_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    gradient().save(tmp_path / "frames.webp", save_all=True, append_images=[gradient().rotate(90)])
    gradient().save(tmp_path / "old.bmp")
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    (tmp_path / "torn.png").write_bytes(whole.read_bytes()[:900])
    for name in ("text.png", "frames.webp", "old.bmp", "torn.png", "missing.png"):
        with pytest.raises(ValueError) as caught:
            images.open_picture(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_huge_picture_is_refused_by_its_header(tmp_path):
    path = tmp_path / "huge.png"
    gradient().save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 9000, 8000)  # the sides, in the header chunk, then its checksum
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="9000 x 8000 pixels: use at most 64 megapixels"):
        images.open_picture(path)


def test_a_contact_sheet_holds_every_picture_in_reading_order():
    colors = ["red", "green", "blue"]
    sheet = images.contact_sheet([Image.new("RGB", (10, 8), color) for color in colors], columns=2)
    assert sheet.size == (2 * 14 + 4, 2 * 12 + 4)
    assert [sheet.getpixel(at) for at in ((5, 5), (20, 5), (5, 18))] == [
        (255, 0, 0),
        (0, 128, 0),
        (0, 0, 255),
    ]
    with pytest.raises(ValueError, match="captions has 1 texts for 2 pictures"):
        images.contact_sheet([gradient(), gradient()], captions=["one"])
