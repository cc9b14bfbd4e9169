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


def test_transparent_parts_become_white_also_in_arrays_of_levels():
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    levels = np.array(clear)
    for form in (clear, levels, torch.from_numpy(levels).permute(2, 0, 1)):
        assert images.as_pictures(form).shape == (1, 3, 8, 8) and images.as_pictures(form).min() == 1.0


def test_floating_tensors_with_the_vaes_channels_are_latents_and_nothing_else_is():
    four = torch.zeros(2, 4, 8, 8)
    assert images.as_latents(four, 4) is four
    for one, rows in ((four[0], 1), ([four[0], four[1]], 2), ([four, four], 4)):
        found = images.as_latents(one, 4)
        assert found is not None and found.shape == (rows, 4, 8, 8)
    pictures = [gradient(), [gradient()], four.to(torch.uint8), four.numpy(), torch.zeros(3, 8, 8), None, []]
    for form in pictures:
        assert images.as_latents(form, 4) is None
    assert images.as_latents(four, 16) is None and images.as_latents(torch.zeros(1, 3, 8, 8), 3) is None
    with pytest.raises(ValueError, match="latents of different sizes"):
        images.as_latents([four, four[..., :4]], 4)


def test_masks_are_zero_and_one_and_a_half_is_painted():
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8))
    assert images.as_masks(grey).tolist() == [[[[0, 0, 1, 1]]]]
    assert images.as_masks(np.array([[0.0, 1.0]])).tolist() == [[[[0, 1]]]]
    assert images.as_masks(torch.tensor([[[0.0, 1.0]]])).shape == (1, 1, 1, 2)


def test_soft_masks_keep_their_gray_but_not_what_is_nearly_black_or_white():
    gray = Image.fromarray(np.array([[0, 6, 51, 204, 249, 255]], dtype=np.uint8))
    torch.testing.assert_close(
        images.as_masks(gray, soft=True), torch.tensor([[[[0.0, 0.0, 0.2, 0.8, 1.0, 1.0]]]])
    )
    _, soft = images.picture_and_mask(gray, gray, size=(None, None), soft=True)
    _, rounded = images.picture_and_mask(gray, gray, size=(None, None), soft=True, blend="none")
    assert soft is not None and soft[0, 0, 0, 2] == 51 / 255
    assert rounded is not None and rounded.flatten().tolist() == [0, 0, 0, 1, 1, 1]


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


def test_a_named_size_resizes_picture_and_mask():
    picture, mask = images.picture_and_mask(gradient(), gradient(), size=(16, 32))
    assert picture is not None and mask is not None
    assert picture.shape == (1, 3, 16, 32) and mask.shape == (1, 1, 16, 32)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ((None, None), (90, 160)),
        ((45, None), (45, 80)),
        ((None, 80), (48, 80)),
        ((None, 1), (8, 1)),
        ((30, 70), (30, 70)),
    ],
)
def test_one_side_brings_the_other_in_the_pictures_aspect_ratio(wanted, size):
    assert images.whole_size((90, 160), wanted, factor=8) == size
    picture, mask = images.picture_and_mask(gradient(160, 90), gradient(160, 90), size=wanted)
    assert picture is not None and mask is not None
    assert picture.shape[-2:] == size and mask.shape[-2:] == size


def halves(width: int = 48, height: int = 40) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


def test_a_hard_edge_takes_each_pixel_from_one_side_to_the_bit():
    drawn, kept = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0)).split(1)
    out = images.blended(drawn, kept, halves(), blend="exact", reach=8)
    assert torch.equal(out[..., :24], drawn[..., :24]) and torch.equal(out[..., 24:], kept[..., 24:])
    assert images.blended(drawn, kept, halves(), blend="none", reach=8) is drawn


def test_a_feathered_edge_fades_outside_the_mask_and_ends_within_twice_its_reach():
    drawn, kept = torch.ones(1, 3, 40, 48), torch.zeros(1, 3, 40, 48)
    out = images.blended(drawn, kept, halves(), blend="feather", reach=4)
    row = out[0, 0, 20]
    assert torch.equal(out, out[..., 20:21, :].expand_as(out))  # no darker towards the picture's border
    assert torch.equal(row[:24], torch.ones(24)) and torch.equal(row[32:], torch.zeros(16))
    steps = row[23:33].diff()
    assert (steps <= 0).all() and steps.min() > -0.3 and row[28].item() == pytest.approx(0.4, abs=0.2)
    noisy = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    out = images.blended(drawn, noisy, halves(), blend="feather", reach=4)
    assert torch.equal(out[..., 32:], noisy[..., 32:])


def test_a_single_masked_pixel_is_drawn_in_full_under_a_feathered_edge():
    mask = torch.zeros(1, 1, 33, 33)
    mask[0, 0, 16, 16] = 1
    share = images.feathered(mask, reach=4)
    assert share[0, 0, 16, 16] == 1 and share[0, 0, 15, 15] > 0.9 and share[0, 0, 16, 25] == 0


def test_every_picture_of_a_batch_is_blended_with_its_own():
    kept = torch.stack([torch.full((3, 40, 48), 0.2), torch.full((3, 40, 48), 0.4)])
    out = images.blended(torch.ones(4, 3, 40, 48), kept, halves(), blend="exact", reach=8)
    assert out[:, 0, 0, 47].tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4])


def test_a_cutout_surrounds_its_mask_in_the_shape_it_is_painted_at():
    picture = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 60, 80)
    masks[0, 0, 20:30, 10:14] = 1
    masks[1, 0, 55:60, 70:80] = 1
    cutout = images.cut_out(picture, masks, size=(32, 64), padding=2)
    assert cutout.picture.shape == (2, 3, 32, 64) and cutout.mask.shape == (2, 1, 32, 64)
    for (left, top, right, bottom), mask in zip(cutout.boxes, masks, strict=True):
        inside = mask[0, top:bottom, left:right]
        assert inside.sum() == mask.sum() and (right - left) / (bottom - top) == pytest.approx(2, abs=0.2)
    assert set(cutout.mask.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="mask_image is black all over"):
        images.cut_out(picture, torch.zeros(1, 1, 60, 80), size=(32, 64), padding=2)


def test_what_is_pasted_back_leaves_all_around_it_as_it_was():
    picture = torch.rand(2, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    before = picture.clone()
    drawn = torch.linspace(0, 1, 4).reshape(4, 1, 1, 1).expand(4, 3, 16, 16)
    boxes = ((0, 0, 16, 16), (10, 20, 42, 52))
    out = images.paste_back(drawn, picture, boxes)
    assert torch.equal(picture, before)
    assert torch.equal(out[0, :, :16, :16], drawn[0]) and torch.equal(out[1, :, :16, :16], drawn[1])
    assert (out[3, :, 20:52, 10:42] - 1).abs().max() < 1e-6
    out[:2, :, :16, :16] = picture[0, :, :16, :16]
    out[2:, :, 20:52, 10:42] = picture[1, :, 20:52, 10:42]
    assert torch.equal(out, picture.repeat_interleave(2, dim=0))


def test_padding_repeats_the_edge_and_leaves_the_top_left_in_place():
    picture = images.as_pictures(gradient(13, 9))
    wide = images.padded(picture, 8)
    assert wide.shape == (1, 3, 16, 16)
    assert torch.equal(wide[..., :9, :13], picture)
    assert torch.equal(wide[..., :9, 15], picture[..., 12])
    assert images.padded(wide, 8) is wide


def test_pictures_are_spread_prompt_major():
    two = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    assert images.spread(two, 4).flatten().tolist() == [0, 0, 1, 1]
    assert images.spread(two, 2) is two


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
