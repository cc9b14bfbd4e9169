"""Texts come out of PNG, JPEG and WebP files whoever wrote them, and no file makes the reader take in much.

Files are made by Pillow, or byte by byte; what the texts say is not looked at here.
"""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from ldm_pipeline.containers import PNG_SIGNATURE, PictureTexts, read_texts

COMMENT = "Été ☃ Steps: 20"


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    return path


def read(tmp_path: Path, content: bytes) -> PictureTexts:
    return read_texts(written(tmp_path, content))


def chunk(kind: bytes, content: bytes, *, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return struct.pack(">I", size) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + b"".join(chunks) + chunk(b"IEND", b"")


def saved(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 24)).save(buffer, format=format, **options)
    return buffer.getvalue()


def exif(order: str, comment: bytes, *, where: int | None = None, count: int = 1) -> bytes:
    """A TIFF head, a directory with a pointer, a directory with UserComment."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    first = struct.pack(order + "HHHII", 1, 0x8769, 4, 1, 26 if where is None else where) + bytes(4)
    entry = struct.pack(order + "HHII", 0x9286, 7, len(comment), 44)
    return head + first + struct.pack(order + "H", count) + entry + bytes(4) + comment


def test_every_kind_of_png_text_is_read_before_and_after_the_pixels(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("latin", "Été")
    info.add_itxt("unicode", "☃")
    info.add_text("packed", "x" * 9_000, zip=True)
    info.add_itxt("packed unicode", "☃" * 9_000, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    content = saved("PNG", pnginfo=info)
    late = content[:-12] + chunk(b"tEXt", b"late\0text") + chunk(b"tEXt", b"late\0again") + content[-12:]
    found = read(tmp_path, late)
    assert found.texts == {
        **{"latin": "Été", "unicode": "☃", "packed": "x" * 9_000, "packed unicode": "☃" * 9_000},
        "late": "text",
    }
    assert (found.format, found.width, found.height, found.xmp, found.damage) == ("PNG", 40, 24, b"<x/>", [])


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_exifs_comment_is_read_in_any_byte_order(format: str, order: str, encoding: str, tmp_path: Path):
    block = b"Exif\0\0" + exif(order, b"UNICODE\0" + COMMENT.encode(encoding))
    found = read(tmp_path, saved(format, exif=block))
    assert (found.comment, found.width, found.height, found.damage) == (COMMENT, 40, 24, [])


def test_other_encodings_of_the_comment(tmp_path: Path):
    for head in (b"ASCII\0\0\0", bytes(8)):
        block = b"Exif\0\0" + exif("<", head + b"Steps: 20\0")
        assert read(tmp_path, saved("JPEG", exif=block)).comment == "Steps: 20"


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_xmp_and_comfyuis_tags_are_read(format: str, tmp_path: Path):
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = "workflow:{}", "prompt:{}"
    found = read(tmp_path, saved(format, exif=tags.tobytes(), xmp=b"<x/>"))
    assert (found.camera, found.xmp) == (("workflow:{}", "prompt:{}"), b"<x/>")


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"x"}, {}], ids=str)
def test_the_size_of_every_kind_of_webp(options: dict, tmp_path: Path):
    found = read(tmp_path, saved("WEBP", **options))
    assert (found.width, found.height) == (40, 24)


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (png(chunk(b"tEXt", b"a\0b"))[:-30], "cut off"),
        (png(chunk(b"tEXt", b"a\0b", length=2**31)), "bytes"),
        (png(chunk(b"tEXt", b"a\0b")[:-1] + b"\0"), "checksum"),
        (png(chunk(b"zTXt", b"a\0\0nonsense")), "decompressed"),
        (png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))), "more than"),
        (png(chunk(b"iTXt", b"a\0\0\0\0\0\xff")), "UTF-8"),
        (png(*[chunk(b"tEXt", b"%d\0" % i + bytes(3_900_000)) for i in range(4)]), "texts have more than"),
        (png(chunk(b"IHDR", b"")), "out of order"),
        (png(chunk(b"eXIf", b"nonsense")), "head"),
        (png(chunk(b"eXIf", exif("<", b"x")[:30])), "cut off"),
        (png(chunk(b"eXIf", exif(">", b"x", where=10**9))), "cut off"),
        (png(chunk(b"eXIf", exif(">", b"x", count=65_535))), "cut off"),
        (png(chunk(b"abCD", b"") * 200_000), "parts"),
        (saved("JPEG")[:40], "picture that can be read"),
        (saved("JPEG", exif=b"Exif\0\0nonsense"), "head"),
        (saved("JPEG").replace(b"\xff\xdb", b"\0\0"), "picture that can be read"),
        (saved("JPEG")[:2] + b"\xff\xe1\0\0", "picture that can be read"),
        (saved("WEBP")[:20], "picture that can be read"),
        (saved("WEBP") + b"EXIF" + b"\xff" * 4, "too many"),
        (saved("WEBP") + b"EX", "cut off"),
    ],
    ids=range(20),
)
def test_damage_is_named_and_no_length_is_believed(content: bytes, damage: str, tmp_path: Path):
    path = written(tmp_path, content)
    del content
    tracemalloc.start()
    try:
        try:
            told = "; ".join(read_texts(path).damage)
        except ValueError as error:
            told = str(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert damage in told and "\n" not in told
    assert peak < 50_000_000


@pytest.mark.parametrize(
    "content",
    [
        png(width=13_000, height=13_000),
        saved("JPEG").replace(struct.pack(">HH", 24, 40), struct.pack(">HH", 13_000, 13_000)),
        b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + (12_999).to_bytes(3, "little") * 2,
    ],
    ids=["PNG", "JPEG", "WebP"],
)
def test_a_header_of_169_megapixels_is_refused(content: bytes, tmp_path: Path):
    with pytest.raises(ValueError, match="13000 x 13000 pixels: at most 64 megapixels"):
        read(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(20), PNG_SIGNATURE, b"\xff\xd8", b"RIFFxxxxWEBP"])
def test_what_is_no_picture_is_one_line(content: bytes, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^a\.bin is not a .* that can be read") as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
