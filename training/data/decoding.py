"""The bytes of one PNG, JPEG or WebP file -> upright 8-bit pixels in sRGB, or the reason why not.

Knows nothing of where the bytes lie, of captions or of buckets. Transparency is kept, not yet put on a color.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ldm_pipeline.images import LARGEST_PIXELS, OPENED_FORMATS

LARGEST_FILE_BYTES = 256 * 1024 * 1024
"""64 megapixels of RGBA, not compressed."""
LARGEST_PROFILE_BYTES = 4 * 1024 * 1024
STILL_FORMATS = (*OPENED_FORMATS, "MPO")
"""MPO: a JPEG whose first frame is the picture, as phones write it; what follows is a depth or gain map."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag 0x0112: what makes a picture upright."""
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError, MemoryError,
    struct.error,
)  # fmt: skip
"""What Pillow's readers raise for damaged files."""
PLAIN_SRGB = ("sRGB IEC61966", "sRGB built-in")
"""How the descriptions of the usual sRGB profiles start: nothing is to be done then."""
RGB_OF = {"RGB", "L", "1", "P", "LA", "PA", "RGBA"}
"""Modes whose profile, if any, is one of RGB or gray."""


class UnreadablePicture(ValueError):
    """A file that is no usable picture; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Decoded:
    """A whole picture."""

    pixels: NDArray[np.uint8]
    """[height, width, 3], or 4 where some of it is transparent: color is 0 where alpha is."""
    notes: tuple[str, ...]
    """What was special about the file, e.g. "CMYK"."""


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Pillow's warning about a huge picture becomes an error, its other remarks on odd files are not shown.

    Changes the process's warning filters for the time being: enter it outside of threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(data: bytes) -> Decoded:
    """Decode a file's bytes, turned as its EXIF says and brought from its color profile to sRGB.

    Call it inside `bombs_refused()`.

    Raises:
        UnreadablePicture: another format, several frames, more than 64 megapixels (read from the header), a
            truncated or corrupt file, or nothing visible in it.
    """
    if len(data) > LARGEST_FILE_BYTES:
        raise UnreadablePicture(f"huge: {len(data) >> 20} MiB, at most {LARGEST_FILE_BYTES >> 20} are read")
    try:
        with Image.open(BytesIO(data), formats=OPENED_FORMATS) as picture:
            _check_header(picture)
            notes: list[str] = []
            orientation = _orientation(picture)
            profile = picture.info.get("icc_profile")
            picture.load()
            upright = picture.transpose(TURNS[orientation]) if orientation in TURNS else picture
            if upright is not picture:
                notes.append("turned as its EXIF says")
            pixels = _pixels(upright, profile, notes)
    except UnreadablePicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadablePicture(f"huge: more than {LARGEST_PIXELS >> 20} megapixels") from None
    except Image.UnidentifiedImageError:
        raise UnreadablePicture(_unidentified(data)) from None
    except DAMAGE as error:
        raise UnreadablePicture(f"corrupt or truncated: {' '.join(str(error).split())}") from None
    return Decoded(_visible(pixels), tuple(notes))


def on_background(pixels: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """[height, width, 3 or 4] -> [height, width, 3]: what is transparent shows the color, 0..255 each."""
    if pixels.shape[-1] == 3:
        return pixels
    plain = Image.new("RGBA", (pixels.shape[1], pixels.shape[0]), (*color, 255))
    return np.asarray(Image.alpha_composite(plain, Image.fromarray(pixels)))[..., :3]


def _check_header(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > LARGEST_PIXELS:
        raise UnreadablePicture(
            f"huge: {width} x {height} pixels, at most {LARGEST_PIXELS >> 20} megapixels are read"
        )
    frames = getattr(picture, "n_frames", 1)
    if frames != 1 and picture.format != "MPO":
        raise UnreadablePicture(f"animated: {frames} frames; save the one you want as a still picture")


def _orientation(picture: Image.Image) -> int:
    """1 to 8; 1 where there is no EXIF block, or none that can be read."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's EXIF reader raises a dozen kinds of errors for broken blocks
        return 1
    return value if isinstance(value, int) else 1


def _pixels(picture: Image.Image, profile: bytes | None, notes: list[str]) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        notes.append("16-bit gray")
        return _from_16_bits(picture)
    if picture.mode == "CMYK":
        notes.append("CMYK")
    elif picture.mode not in RGB_OF:
        raise UnreadablePicture(f"color: mode {picture.mode} is not known here; save it as RGB")
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    alpha = picture.convert("RGBA").getchannel("A") if transparent else None
    # Mode P with transparency goes over RGBA, so that Pillow does not remap its colors.
    if picture.mode in ("L", "LA"):
        color = picture.convert("L")
    else:
        color = picture if picture.mode == "CMYK" else picture.convert("RGBA").convert("RGB")
    rgb = np.asarray(_in_srgb(color, profile, notes))
    return rgb if alpha is None else np.dstack([rgb, np.asarray(alpha)])


def _from_16_bits(picture: Image.Image) -> NDArray[np.uint8]:
    """65535 becomes 255; Pillow's own conversion would cut everything above 255 off."""
    levels = np.asarray(picture).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise UnreadablePicture("color: its gray levels go beyond 16 bits; save it with 8")
    gray = ((levels + 128) // 257).astype(np.uint8)
    clear = picture.info.get("transparency")
    shown = [gray, gray, gray] if clear is None else [gray, gray, gray, 255 * (levels != clear)]
    return np.dstack(shown).astype(np.uint8)


def _in_srgb(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if not profile:
        return picture.convert("RGB")
    if len(profile) > LARGEST_PROFILE_BYTES:
        raise UnreadablePicture(f"color: its profile has {len(profile) >> 20} MiB; save it in sRGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip().startswith(PLAIN_SRGB):
            return picture.convert("RGB")
        turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("its color profile is broken or of another kind: taken as sRGB")
        return picture.convert("RGB")
    assert turned is not None
    notes.append("from its color profile to sRGB")
    return turned


def _visible(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without an alpha channel that hides nothing; what cannot be seen is black and so changes no hash."""
    if pixels.shape[-1] == 3:
        return np.ascontiguousarray(pixels)
    alpha = pixels[..., 3]
    if not alpha.any():
        raise UnreadablePicture("invisible: alpha is 0 everywhere")
    if alpha.min() == 255:
        return np.ascontiguousarray(pixels[..., :3])
    return pixels * (alpha > 0)[..., None]


def _unidentified(data: bytes) -> str:
    known = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF"}
    known |= {b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL"}
    name = next((name for start, name in known.items() if data.startswith(start)), None)
    if data[4:8] == b"ftyp":
        name = "AVIF" if data[8:12] in (b"avif", b"avis") else "HEIC" if data[8:11] == b"hei" else "video"
    if not data:
        return "empty: the file has no bytes"
    what = f"this is {name}" if name else "this is no picture, or its beginning is damaged"
    return f"format: {what}; only PNG, JPEG and WebP are opened"
