"""Picture files of every kind that people have, made in memory: plain ones, odd ones and damaged ones.

Knows nothing of what is tested with them.
"""

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms


def drawing(width: int = 96, height: int = 64, *, number: int = 0) -> Image.Image:
    """A smooth RGB picture, another one for each number."""
    draws = np.random.default_rng(number)
    small = Image.fromarray(draws.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    picture.save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


def with_orientation(picture: Image.Image, orientation: int) -> bytes:
    """A PNG whose EXIF block says how it must be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, exif=exif)


def with_alpha(picture: Image.Image, alpha: int = 0) -> Image.Image:
    """The left half has this alpha, the right half is opaque."""
    pixels = np.dstack([np.asarray(picture), np.full(picture.size[::-1], 255, np.uint8)])
    pixels[:, : picture.width // 2, 3] = alpha
    return Image.fromarray(pixels)


def animation(form: str) -> bytes:
    frames = [drawing(number=number) for number in (1, 2, 3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size in its header and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def linear_profile() -> bytes:
    """An RGB profile with a straight tone curve, written by hand: sRGB's primaries, gamma 1."""
    colors = {
        b"rXYZ": (0.4361, 0.2225, 0.0139),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7141),
    }
    white = (0.9642, 1.0, 0.8249)

    def place(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = b"linear"
    parts = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(79 + 4)}
    parts |= {b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": place(white)}
    parts |= {name: place(values) for name, values in colors.items()}
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    parts |= {name: curve for name in (b"rTRC", b"gTRC", b"bTRC")}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(parts)
    for name, data in parts.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = (
        struct.pack(">I", start + len(body)) + bytes(4) + b"\x02\x40\0\0mntrRGB XYZ " + bytes(12) + b"acsp"
    )
    header += bytes(28) + place(white)[8:] + bytes(48)
    data = header + struct.pack(">I", len(parts)) + table + body
    ImageCms.ImageCmsProfile(io.BytesIO(data))  # littleCMS can read it
    return data


def write_shard(path: Path, members: Mapping[str, bytes]) -> None:
    """A .tar file with these members in this order."""
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            add_member(shard, name, data)


def add_member(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file in a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
