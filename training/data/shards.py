"""WebDataset shards (.tar files) -> their samples: one walk over the headers, pictures read where they lie.

Knows nothing of pixels. Nothing is extracted, unpickled or run: regular members with listed endings are
read, everything else is passed over.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from training.data.found import (
    LARGEST_TEXT_BYTES,
    OTHER_PICTURE_ENDINGS,
    PICTURE_ENDINGS,
    TEXT_ENDINGS,
    Found,
    Place,
    Unit,
    UnusableText,
    check_length,
    digest_of,
    stamp_of,
    texts_beside,
)

READ_ENDINGS = {*PICTURE_ENDINGS, *OTHER_PICTURE_ENDINGS, *TEXT_ENDINGS}
BLOCK = tarfile.BLOCKSIZE
LONGEST_END = 4 * tarfile.RECORDSIZE
"""Bytes: writers fill their last record up with empty blocks."""


def shard_units(paths: list[Path]) -> Iterator[Unit]:
    """One unit a shard, in the order given."""
    for path in paths:
        stamp = stamp_of(path)
        yield Unit(name=path.name, stamp=digest_of(str(path), *stamp), find=partial(_samples, path, stamp))


def _samples(path: Path, stamp: tuple[int, int]) -> Iterator[Found]:
    """The samples of a shard; where it is damaged, last one that says up to where it was read."""
    key, parts = "", {}
    passed_over: Counter[str] = Counter()
    try:
        with tarfile.open(path, "r:") as shard:
            while (member := shard.next()) is not None:
                shard.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
                stem, ending = _key_and_ending(member.name)
                if not member.isreg() or member.issparse():
                    continue
                if ending not in READ_ENDINGS:
                    passed_over[ending] += ending.endswith(PICTURE_ENDINGS)
                    continue
                if stem != key:
                    yield from _sample(path, stamp, key, parts)
                    key, parts = stem, {}
                if ending in parts:
                    yield Found(name=f"{path.name}/{member.name}", reason="second: its name is there twice")
                parts.setdefault(ending, (member.offset_data, member.size))
            yield from _sample(path, stamp, key, parts)
            key, parts = "", {}
            if reason := _strange_end(path, shard.offset):
                yield Found(name=path.name, reason=reason)
    # ValueError, RecursionError: sizes that are no numbers, chains of extended headers.
    except (tarfile.TarError, EOFError, ValueError, RecursionError, OverflowError) as error:
        yield from _sample(path, stamp, key, parts)
        detail = " ".join(str(error).split())
        yield Found(
            name=path.name, reason=f"shard: damaged, or no plain .tar file ({detail}); read up to there"
        )
    for ending, count in sorted((+passed_over).items()):
        reason = f"ending: {count} files end in {ending!r}, no picture's ending: keys stop at the first dot"
        yield Found(name=path.name, reason=reason)


def _sample(
    path: Path, stamp: tuple[int, int], key: str, parts: dict[str, tuple[int, int]]
) -> Iterator[Found]:
    pictures = [ending for ending in parts if ending in (*PICTURE_ENDINGS, *OTHER_PICTURE_ENDINGS)]
    if not pictures:
        return
    name = f"{path.name}/{key}{pictures[0]}"
    for other in pictures[1:]:
        yield Found(
            name=f"{path.name}/{key}{other}", reason=f"second: {key}{pictures[0]} is the sample's picture"
        )
    offset, length = parts[pictures[0]]
    try:
        check_length(length)
        texts, fields = texts_beside({one: _part(path, *parts[one]) for one in TEXT_ENDINGS if one in parts})
    except (UnusableText, ValueError) as reason:
        yield Found(name=name, reason=str(reason))
        return
    place = Place(file=str(path), stamp=stamp, offset=offset, length=length)
    yield Found(name=name, place=place, texts=texts, fields=fields)


def _part(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(min(length, LARGEST_TEXT_BYTES + 1))


def _key_and_ending(name: str) -> tuple[str, str]:
    """As WebDataset has it: the key is everything up to the first dot of the last part of the path."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return folder + slash + stem, (dot + ending).lower()


def _strange_end(path: Path, offset: int) -> str:
    """Why an archive may not end there, which tarfile does not tell; "" for an empty block or the end."""
    beyond = path.stat().st_size - offset
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(BLOCK)
    if any(block) or 0 < beyond < BLOCK:
        return f"shard: damaged at byte {offset}; read up to there"
    if beyond > LONGEST_END:
        return f"shard: {beyond} bytes follow its end mark, as if archives were joined; read up to there"
    return ""
