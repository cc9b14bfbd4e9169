"""Every kind of picture file comes out upright, in 8 bits and in sRGB, or is refused with a reason."""

import io
import random
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.odd_pictures import animation, bomb, drawing, encoded, linear_profile, with_alpha, with_orientation
from training.data import decoding
from training.data.decoding import UnreadablePicture, bombs_refused, decoded, on_background


def read(data: bytes) -> decoding.Decoded:
    with bombs_refused():
        return decoded(data)


def reason_of(data: bytes) -> str:
    with pytest.raises(UnreadablePicture) as caught:
        read(data)
    return str(caught.value)


@pytest.mark.parametrize("form, options", [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_plain_picture_comes_out_as_it_is(form: str, options: dict[str, bool]):
    picture = drawing()
    found = read(encoded(picture, form, **options))
    assert np.array_equal(found.pixels, np.asarray(picture)) and found.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_as_pillow_does(orientation: int):
    data = with_orientation(drawing(), orientation)
    found = read(data)
    assert np.array_equal(found.pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert found.notes == (("turned as its EXIF says",) if orientation > 1 else ())


def test_a_broken_exif_block_does_not_cost_the_picture():
    data = encoded(drawing(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read(data).pixels.shape == (64, 96, 3)


def test_alpha_is_kept_and_what_cannot_be_seen_is_black():
    found = read(encoded(with_alpha(drawing())))
    assert found.pixels.shape == (64, 96, 4)
    assert not found.pixels[:, :48].any() and found.pixels[:, 48:, 3].min() == 255
    other = np.asarray(with_alpha(drawing())).copy()
    other[:, :48, :3] = 77  # another color where nothing shows
    assert np.array_equal(read(encoded(Image.fromarray(other))).pixels, found.pixels)


def test_an_alpha_channel_that_hides_nothing_is_dropped():
    assert np.array_equal(read(encoded(with_alpha(drawing(), 255))).pixels, np.asarray(drawing()))


def test_the_background_shows_through_in_proportion():
    pixels = read(encoded(with_alpha(drawing(), 128))).pixels
    shown = on_background(pixels, (255, 0, 0))
    mixed = (pixels[:, :48, :3] * (128 / 255) + np.array([255, 0, 0]) * (127 / 255)).round()
    assert np.abs(shown[:, :48].astype(int) - mixed).max() <= 1
    assert np.array_equal(shown[:, 48:], pixels[:, 48:, :3])
    assert on_background(shown, (0, 0, 0)) is shown


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_gray_and_palette_pictures_look_as_in_their_own_mode(mode: str):
    picture = drawing().convert("L").convert(mode) if mode in ("1", "LA") else drawing().convert(mode)
    assert np.array_equal(read(encoded(picture)).pixels, np.asarray(picture.convert("RGB")))


def test_a_transparent_color_of_a_palette_is_transparent():
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((0, 0), 0)
    pixels = read(encoded(picture, transparency=0)).pixels
    assert pixels[0, 0].tolist() == [0, 0, 0, 0] and pixels[1, 1].tolist() == [0, 255, 0, 255]


def test_sixteen_bits_of_gray_keep_their_range():
    levels = np.linspace(0, 65535, 64 * 8).astype(np.uint16).reshape(8, 64)
    found = read(encoded(Image.fromarray(levels)))
    assert found.notes == ("16-bit gray",)
    assert np.abs(found.pixels[..., 0] - levels / 257).max() <= 0.5
    clipped = np.asarray(Image.fromarray(levels).convert("L"))  # what Pillow would have made of it
    assert np.abs(found.pixels[..., 0].astype(int) - clipped).max() > 100


def test_ink_on_paper_becomes_light():
    found = read(encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95))
    assert np.abs(found.pixels[8, 8].astype(int) - [0, 255, 255]).max() <= 3 and found.notes == ("CMYK",)


def test_a_color_profile_is_applied():
    found = read(encoded(Image.new("RGB", (8, 8), (55, 55, 55)), icc_profile=linear_profile()))
    # 55 / 255 of the light is 0.5 in sRGB's curve (IEC 61966-2-1).
    assert np.abs(found.pixels[4, 4].astype(int) - 128).max() <= 2
    assert found.notes == ("from its color profile to sRGB",)


def test_a_broken_color_profile_is_noted():
    found = read(encoded(drawing(), icc_profile=b"no profile at all" * 9))
    assert np.array_equal(found.pixels, np.asarray(drawing()))
    assert found.notes == ("its color profile is broken or of another kind: taken as sRGB",)


def test_a_phone_s_second_frame_is_no_animation():
    assert read(animation("MPO")).pixels.shape == (64, 96, 3)


@pytest.mark.parametrize(
    "data, reason",
    [
        (animation("PNG"), "animated: 3 frames"),
        (animation("WEBP"), "animated: 3 frames"),
        (animation("GIF"), "format: this is GIF; only PNG, JPEG and WebP are opened"),
        (encoded(drawing(), "BMP"), "format: this is BMP"),
        (encoded(drawing(), "TIFF"), "format: this is TIFF"),
        (encoded(drawing(), "AVIF"), "format: this is AVIF"),
        (b"GIF", "format: this is no picture, or its beginning is damaged"),
        (b"", "empty: the file has no bytes"),
        (encoded(drawing())[:200], "corrupt or truncated: "),
        (encoded(drawing(300, 300), "JPEG")[:-900], "corrupt or truncated: "),
        (encoded(drawing(300, 300), "WEBP")[:-100], "corrupt or truncated: "),
        (bomb(8193, 8193), "huge: 8193 x 8193 pixels, at most 64 megapixels"),
        (bomb(10_000, 10_000), "huge: more than 64 megapixels"),
        (bomb(60_000, 60_000), "huge: more than 64 megapixels"),
        (encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0))), "invisible: alpha is 0 everywhere"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(data: bytes, reason: str):
    assert reason_of(data).startswith(reason)


def test_a_huge_file_is_not_even_opened(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "LARGEST_FILE_BYTES", 1 << 20)
    assert reason_of(bytes(2 << 20)) == "huge: 2 MiB, at most 1 are read"


def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else():
    draws = random.Random(1)
    originals = [encoded(drawing()), encoded(drawing(), "JPEG"), encoded(with_alpha(drawing()), "WEBP")]
    originals.append(encoded(drawing(), "PNG", icc_profile=linear_profile(), exif=Image.Exif()))
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        data = bytearray(draws.choice(originals))
        for _ in range(draws.randint(1, 4)):
            data[draws.randrange(len(data))] = draws.randrange(256)
        try:
            outcomes[read(bytes(data)).pixels.dtype == np.uint8] += 1
        except UnreadablePicture as reason:
            assert ": " in str(reason) and "\n" not in str(reason)
            outcomes[False] += 1
    assert min(outcomes.values()) > 20


def test_the_warning_filters_are_put_back():
    before = list(warnings.filters)
    read(encoded(drawing()))
    assert warnings.filters == before
