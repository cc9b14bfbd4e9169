"""A PNG, JPEG or WebP file -> its size and the texts in it; pixels are skipped, never decoded.

It does not know what the texts say. Every length in a file is taken for a lie until the file has kept it: a
text, all texts together and the number of parts are bounded, and so is what a compressed text may become.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

LARGEST_PIXELS = 64 * 1024 * 1024
LARGEST_TEXT_BYTES = 4 * 1024 * 1024
LARGEST_TEXTS_BYTES = 8 * 1024 * 1024
MOST_PARTS = 200_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = "XML:com.adobe.xmp"
XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
EXIF_HEAD = b"Exif\0\0"
EXIF_POINTER, USER_COMMENT, MAKE, MODEL = 0x8769, 0x9286, 0x010F, 0x0110


@dataclass(kw_only=True)
class PictureTexts:
    """What a picture file says beside its pixels."""

    format: str
    """"PNG", "JPEG" or "WEBP"."""
    width: int = 0
    height: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    """PNG's text chunks by keyword, the first of each."""
    comment: str = ""
    """EXIF's UserComment."""
    camera: tuple[str, ...] = ()
    """EXIF's Make and Model, where ComfyUI writes its graphs."""
    xmp: bytes = b""
    """The XMP packet."""
    lossless: bool = False
    """Whether the file's format keeps pixels as they were: PNG, and WebP's lossless kind."""
    damage: list[str] = field(default_factory=list)
    """What could not be read, in the file's order."""
    size: int = 0
    """Bytes of all texts so far."""

    def keep(self, content: bytes) -> bool:
        """Count a text; False, and a line in `damage`, for one that makes too much."""
        self.size += len(content)
        if self.size > LARGEST_TEXTS_BYTES:
            self.damage.append(f"its texts have more than {LARGEST_TEXTS_BYTES} bytes")
            return False
        return True


def read_texts(path: str | os.PathLike[str]) -> PictureTexts:
    """Reads what a picture file says beside its pixels; a damaged file as far as it goes.

    Raises:
        ValueError: in one line, for a file that is no PNG, JPEG or WebP, whose header cannot be read, or
            whose header tells of more than 64 megapixels.
        OSError: when the file cannot be read.
    """
    name = os.path.basename(os.fspath(path))
    with open(path, "rb") as file:
        head = file.read(12)
        if head.startswith(PNG_SIGNATURE):
            file.seek(len(PNG_SIGNATURE))
            found = PictureTexts(format="PNG", lossless=True)
            read = _read_png
        elif head.startswith(b"\xff\xd8"):
            file.seek(2)
            found = PictureTexts(format="JPEG")
            read = _read_jpeg
        elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
            found = PictureTexts(format="WEBP")
            read = _read_webp
        else:
            raise ValueError(f"{name} is not a PNG, JPEG or WebP picture that can be read")
        try:
            read(file, found)
        except EOFError:
            found.damage.append("it is cut off")
        except (ValueError, struct.error, zlib.error) as error:
            found.damage.append(" ".join(str(error).split())[:120])
    if not found.width or not found.height:
        why = f": {found.damage[0]}" if found.damage else ""
        raise ValueError(f"{name} is not a {found.format} picture that can be read{why}")
    if found.width * found.height > LARGEST_PIXELS:
        raise ValueError(f"{name} has {found.width} x {found.height} pixels: at most 64 megapixels are read")
    return found


def _exactly(file: IO[bytes], length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    return content


def _skip(file: IO[bytes], length: int) -> None:
    """Moves on within the file; its end is found by the next read."""
    file.seek(length, io.SEEK_CUR)


def _parts() -> Iterator[int]:
    yield from range(MOST_PARTS)
    raise ValueError(f"it has more than {MOST_PARTS} parts")


def _read_png(file: IO[bytes], found: PictureTexts) -> None:
    """Chunks of length, type, content and checksum; texts may stand before and after the pixels."""
    for number in _parts():
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if (number == 0) != (kind == b"IHDR"):
            raise ValueError("its chunks are out of order")
        if kind == b"IEND":
            return
        if kind not in (b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            _skip(file, length + 4)
            continue
        shown = kind.decode()
        if length > LARGEST_TEXT_BYTES:
            found.damage.append(f"a {shown} chunk has {length} bytes, at most {LARGEST_TEXT_BYTES} are read")
            _skip(file, length + 4)
            continue
        content = _exactly(file, length)
        if struct.unpack(">I", _exactly(file, 4))[0] != zlib.crc32(kind + content):
            found.damage.append(f"a {shown} chunk's checksum is wrong")
            if kind == b"IHDR":
                return
        elif kind == b"IHDR":
            found.width, found.height = struct.unpack(">II", content[:8])
            if found.width * found.height > LARGEST_PIXELS:
                return
        elif kind == b"eXIf":
            if found.keep(content):
                _read_exif(content, found)
        else:
            _read_png_text(kind, content, found)


def _read_png_text(kind: bytes, content: bytes, found: PictureTexts) -> None:
    """Text chunks: keyword, then Latin-1, compressed Latin-1, or UTF-8 that may be compressed."""
    keyword, _, rest = content.partition(b"\0")
    name, encoding, packed = keyword.decode("latin-1")[:79], "latin-1", kind == b"zTXt"
    if kind == b"iTXt":
        packed, encoding = rest[:1] == b"\1", "utf-8"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    if packed:
        reader = zlib.decompressobj()
        try:
            rest = reader.decompress(rest, LARGEST_TEXT_BYTES)
        except zlib.error:
            found.damage.append(f"the text {name[:40]!r} cannot be decompressed")
            return
        if not reader.eof:
            found.damage.append(
                f"the text {name[:40]!r} is cut off or has more than {LARGEST_TEXT_BYTES} bytes"
            )
            return
    if not found.keep(rest) or name in found.texts:
        return
    if name == XMP_KEYWORD:
        found.xmp = found.xmp or rest
        return
    try:
        found.texts[name] = rest.decode(encoding)
    except UnicodeDecodeError:
        found.damage.append(f"the text {name[:40]!r} is not {encoding.upper()}")


def _read_jpeg(file: IO[bytes], found: PictureTexts) -> None:
    """Segments of marker, length and content, up to the pixels."""
    for _ in _parts():
        marker = _exactly(file, 2)
        while marker[1:] == b"\xff":  # fill bytes
            marker = b"\xff" + _exactly(file, 1)
        if marker[0] != 0xFF:
            raise ValueError("its segments are out of order")
        kind = marker[1]
        if kind == 0xD9 or kind == 0xDA:  # end of picture, start of pixels
            return
        if 0xD0 <= kind <= 0xD7 or kind == 0x01:
            continue
        (length,) = struct.unpack(">H", _exactly(file, 2))
        if length < 2:
            raise ValueError("a segment has no length")
        content = _exactly(file, length - 2)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and not found.width:
            found.height, found.width = struct.unpack(">HH", content[1:5])
        elif kind == 0xE1 and content.startswith(EXIF_HEAD):
            if found.keep(content):
                _read_exif(content[len(EXIF_HEAD) :], found)
        elif kind == 0xE1 and content.startswith(XMP_IN_JPEG) and found.keep(content):
            found.xmp = found.xmp or content[len(XMP_IN_JPEG) :]


def _read_webp(file: IO[bytes], found: PictureTexts) -> None:
    """RIFF chunks of type, length and content, padded to even lengths."""
    for _ in _parts():
        head = file.read(8)
        if not head:
            return
        if len(head) < 8:
            raise EOFError
        kind, length = struct.unpack("<4sI", head)
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            content = _exactly(file, min(length, 10))
            _skip(file, length + length % 2 - len(content))
            found.lossless = found.lossless or kind == b"VP8L"
            if not found.width:
                found.width, found.height = _webp_size(kind, content)
        elif kind in (b"EXIF", b"XMP ") and length <= LARGEST_TEXT_BYTES:
            content = _exactly(file, length)
            _skip(file, length % 2)
            if not found.keep(content):
                continue
            if kind == b"EXIF":
                _read_exif(content.removeprefix(EXIF_HEAD), found)
            else:
                found.xmp = found.xmp or content
        else:
            if kind in (b"EXIF", b"XMP "):
                found.damage.append(f"an {kind.decode().strip()} chunk has {length} bytes, which is too many")
            _skip(file, length + length % 2)


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[6:10])
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(head[1:5], "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _read_exif(content: bytes, found: PictureTexts) -> None:
    """Three of EXIF's tags. Readers that build a table of all are led to copy the same bytes for each."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        found.damage.append("its EXIF data has no head")
        return
    try:
        (first,) = struct.unpack_from(order + "I", content, 4)
        main = _tags(content, first, order, (EXIF_POINTER, MAKE, MODEL))
        found.camera = tuple(
            main[tag].split(b"\0")[0].decode("utf-8", "replace") for tag in (MAKE, MODEL) if tag in main
        )
        if EXIF_POINTER in main:
            (second,) = struct.unpack(order + "I", main[EXIF_POINTER][:4])
            comment = _tags(content, second, order, (USER_COMMENT,)).get(USER_COMMENT, b"")
            found.comment = found.comment or _comment_text(comment, order)
    except struct.error:
        found.damage.append("its EXIF data is cut off")


def _tags(content: bytes, place: int, order: str, wanted: tuple[int, ...]) -> dict[int, bytes]:
    """The values of a few tags of the directory at `place`, as they stand there."""
    (count,) = struct.unpack_from(order + "H", content, place)
    values: dict[int, bytes] = {}
    for number in range(count):
        entry = place + 2 + 12 * number
        tag, kind, length = struct.unpack_from(order + "HHI", content, entry)
        if tag in wanted and tag not in values:
            length *= {3: 2, 4: 4, 5: 8, 9: 4, 10: 8, 12: 8}.get(kind, 1)
            start = entry + 8 if length <= 4 else struct.unpack_from(order + "I", content, entry + 8)[0]
            values[tag] = content[start : start + length]
    return values


def _comment_text(comment: bytes, order: str) -> str:
    """EXIF's UserComment: eight bytes that name the encoding, then the text.

    "UNICODE" should be in the file's byte order, but A1111 writes it big-endian in any file: in Latin texts,
    and around a text's spaces and digits, the zeros tell.
    """
    head, text = comment[:8], comment[8:]
    if head != b"UNICODE\0":
        return text.decode("utf-8", "replace").rstrip("\0 ")
    if text[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return text.decode("utf-16", "replace")
    first, second = text[0::2].count(0), text[1::2].count(0)
    big = order == ">" if first == second else first > second
    return text.decode("utf-16-be" if big else "utf-16-le", "replace").rstrip("\0")
