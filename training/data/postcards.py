"""A rendered set of postcards on disk: pictures in memory-mapped chunks, and what can be seen where in each.

Knows nothing of networks. Rendering goes on where it was interrupted; a chunk is complete or absent.
"""

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.scenes.claims import Sight, sight_from
from training.scenes.parts import has_color, is_garment
from training.scenes.render import render
from training.scenes.scene import Scene, sample_scene
from training.scenes.world import World

CHUNK = 512
CELL = 8
"""Pixels of a cell's side: the truth about where things stand is kept as coarsely as a latent is."""
PART_CELL = 4
"""Pixels of the side of the smaller cells that tell which part of what is there."""
COLORED_COUNTS, GARMENT_COUNTS = 2, 4
"""How many pixels of other parts one of a colored part, and one of a garment, outvotes in its cell."""
WORDS = frozenset({"caption.py", "claims.py", "phrases.py", "words.py"})
"""Source files of the scenes that no pixel depends on."""


@dataclass(frozen=True, kw_only=True)
class PostcardConfig:
    """Which postcards: scenes 0..count-1 of stream `seed` of a world, at one size."""

    world: World
    seed: int
    count: int
    size: int = 128
    """Pixels of a side."""

    def __post_init__(self) -> None:
        if self.size % CELL or not 64 <= self.size <= 512:
            raise ValueError(f"size={self.size}: choose a multiple of {CELL} from 64 to 512 pixels.")

    @property
    def key(self) -> str:
        """Content key: world, seed, size and the source of the drawing; `count` only adds chunks."""
        source = hashlib.sha256()
        for path in sorted((Path(__file__).parents[1] / "scenes").glob("*.py")):
            if path.name not in WORDS:
                source.update(path.read_bytes())
        facts = json.dumps([asdict(self.world), self.seed, self.size, source.hexdigest()], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


def words_key() -> str:
    """Content key of the source that words the captions: a cache of captions holds for one such source."""
    source = hashlib.sha256()
    for name in sorted(WORDS):
        source.update((Path(__file__).parents[1] / "scenes" / name).read_bytes())
    return source.hexdigest()[:8]


class Postcards:
    """Random access to a rendered set: `images`, `scene(i)`, `sight(i)`."""

    def __init__(self, folder: Path, config: PostcardConfig):
        self.config, self.folder = config, folder
        numbers = range(_chunks(config.count))
        absent = [n for n in numbers if _rendered(folder, n) < _length(n, config.count)]
        if absent:
            raise FileNotFoundError(
                f"folder={folder}: {len(absent)} of {len(numbers)} chunks are missing; render them first "
                "(`render_postcards`, or `python -m training scenes`)."
            )
        self._images = [np.load(folder / f"chunk-{n:05d}.npy", mmap_mode="r") for n in numbers]
        self._shares = [np.load(folder / f"things-{n:05d}.npy", mmap_mode="r") for n in numbers]
        self._parts = [np.load(folder / f"parts-{n:05d}.npy", mmap_mode="r") for n in numbers]
        self._sights: list[list[Any]] = [
            json.loads((folder / f"chunk-{n:05d}.json").read_text()) for n in numbers
        ]

    def __len__(self) -> int:
        return self.config.count

    def images(self, indices: list[int]) -> NDArray[np.uint8]:
        """Pictures uint8 [n, size, size, 3]."""
        for index in indices:
            self._check(index)
        return np.stack([self._images[i // CHUNK][i % CHUNK] for i in indices])

    def thing_shares(self, indices: list[int]) -> NDArray[np.float32]:
        """Share of each cell of 8 x 8 pixels that things cover, [n, size/8, size/8] in [0, 1]."""
        for index in indices:
            self._check(index)
        pixels = np.stack([self._shares[i // CHUNK][i % CHUNK] for i in indices])
        return (pixels / CELL**2).astype(np.float32)

    def parts(self, indices: list[int]) -> NDArray[np.uint8]:
        """What each cell of 4 x 4 pixels belongs to, [n, size/4, size/4], coded as in `scenes.parts`."""
        for index in indices:
            self._check(index)
        return np.stack([self._parts[i // CHUNK][i % CHUNK] for i in indices])

    def scene(self, index: int) -> Scene:
        self._check(index)
        return sample_scene(self.config.seed, index, self.config.world)

    def sight(self, index: int) -> Sight:
        self._check(index)
        things, colors, garments, weather = self._sights[index // CHUNK][index % CHUNK]
        return Sight(
            things_seen=tuple(map(bool, things)),
            colors_seen=tuple(map(bool, colors)),
            garments_seen=tuple(tuple(map(bool, g)) for g in garments),
            weather_seen=bool(weather),
        )

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise ValueError(
                f"index={index}: this set holds {len(self)} postcards; choose from 0 to {len(self) - 1}."
            )

    def __iter__(self) -> Iterator[tuple[Scene, Sight]]:
        return ((self.scene(i), self.sight(i)) for i in range(len(self)))


def render_postcards(config: PostcardConfig, root: Path, *, processes: int | None = None) -> Postcards:
    """Render what is missing of the set below `root`, in parallel with a progress bar, and open it.

    The folder is named by the content key: changed scene code or settings make another folder, so that a
    stale set is never read.
    """
    folder = root / f"postcards-{config.size}-{config.key}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1))
    missing = [n for n in range(_chunks(config.count)) if _rendered(folder, n) < _length(n, config.count)]
    if missing:
        job = partial(_render_chunk, config=config, folder=folder)
        workers = min(len(missing), processes or os.cpu_count() or 1)
        with (
            tqdm(
                total=sum(_length(n, config.count) for n in missing),
                unit="scene",
                desc=f"rendering {config.size} px",
            ) as bar,
            _pool(workers) as pool,
        ):
            for rendered in (pool.map if pool else map)(job, missing):
                bar.update(rendered)
    return Postcards(folder, config)


def _pool(workers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Worker processes that leave Ctrl-C to us; None for one worker: this process is enough then.

    They are started anew, not forked: a fork of a process with threads (torch's) may hang.
    """
    if workers == 1:
        return nullcontext()
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


def _chunks(count: int) -> int:
    return -(-count // CHUNK)


def _length(number: int, count: int) -> int:
    """Pictures that chunk `number` of a set of `count` needs: only the last may be short."""
    return min(CHUNK, count - number * CHUNK)


def _rendered(folder: Path, number: int) -> int:
    """Pictures in a chunk on disk; 0 where there is none, or no whole one."""
    words = folder / f"chunk-{number:05d}.json"
    beside = [folder / f"{name}-{number:05d}.npy" for name in ("things", "parts")]
    return len(json.loads(words.read_text())) if all(path.is_file() for path in (words, *beside)) else 0


def _render_chunk(number: int, *, config: PostcardConfig, folder: Path) -> int:
    """Pixels first, the JSON that marks the chunk as complete last, all renamed into place."""
    images, shares, parts, sights = [], [], [], []
    for index in range(number * CHUNK, number * CHUNK + _length(number, config.count)):
        rendering = render(sample_scene(config.seed, index, config.world), config.size)
        sight = sight_from(rendering.visibility, weather_seen=rendering.weather_seen)
        images.append(rendering.image)
        shares.append(_pixels_of_things(rendering.masks, config.size))
        parts.append(_part_cells(rendering.parts))
        sights.append([sight.things_seen, sight.colors_seen, sight.garments_seen, sight.weather_seen])
    partial_path = folder / f"chunk-{number:05d}.partial"
    try:
        for name, arrays in (("chunk", images), ("things", shares), ("parts", parts)):
            with partial_path.open("wb") as file:
                np.save(file, np.stack(arrays))
            os.replace(partial_path, folder / f"{name}-{number:05d}.npy")
        partial_path.write_text(json.dumps(sights))
        os.replace(partial_path, folder / f"chunk-{number:05d}.json")
    except OSError as error:
        partial_path.unlink(missing_ok=True)
        raise OSError(
            f"{folder}: the pictures could not be written ({error}); make room there and start again, "
            "what is rendered stays."
        ) from None
    return len(sights)


def _pixels_of_things(masks: tuple[NDArray[np.bool_], ...], size: int) -> NDArray[np.uint8]:
    """How many of each cell's 64 pixels belong to a thing, [size/8, size/8]."""
    covered = np.any(masks, axis=0) if masks else np.zeros((size, size), bool)
    cells = covered.reshape(size // CELL, CELL, size // CELL, CELL)
    return cells.sum(axis=(1, 3)).astype(np.uint8)


def _part_cells(parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The code with the most votes of each cell, [size/4, size/4]; small colored parts have more of them."""
    codes = np.unique(parts)
    cells = len(parts) // PART_CELL
    votes = np.stack([
        (parts == code).reshape(cells, PART_CELL, cells, PART_CELL).sum(axis=(1, 3)) * _votes(int(code))
        for code in codes
    ])  # fmt: skip
    return codes[votes.argmax(axis=0)]


def _votes(code: int) -> int:
    if not has_color(code):
        return 1
    return GARMENT_COUNTS if is_garment(code) else COLORED_COUNTS
