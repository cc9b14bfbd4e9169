"""Rendered postcards -> WebDataset shards with captions, for fine-tunings that must not forget the postcards.

Knows nothing of training. A shard is complete or absent; the same set gives the same bytes.
"""

import io
import tarfile
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training.data.postcards import Postcards, words_key
from training.scenes.caption import draw_caption

SHARD_PICTURES = 1024
CAPTIONS = 6
"""Drawn of each postcard; those that say nothing are left out."""
CAPTION_SEED = 9000


def write_postcard_shards(postcards: Postcards, folder: Path) -> list[Path]:
    """Write what is missing of the set's shards into `folder`, with a progress bar; gives all their paths.

    A sample is `KEY.webp`, lossless, and `KEY.txt`, a caption a line.

    Raises:
        ValueError: the folder holds shards of another set.
        OSError: the disk is full; the shards before stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"postcards-{postcards.config.size}-{postcards.config.key}-{words_key()}"
    starts = range(0, len(postcards), SHARD_PICTURES)
    ends = [min(first + SHARD_PICTURES, len(postcards)) for first in starts]
    paths = [folder / f"{name}-{first:06d}-{end:06d}.tar" for first, end in zip(starts, ends, strict=True)]
    others = sorted({path.name for path in folder.glob("*.tar")} - {path.name for path in paths})
    if others:
        raise ValueError(
            f"--shards {folder}: holds {others[0]}, which is not of this set; choose another folder."
        )
    with tqdm(total=len(postcards), unit="picture", desc="shards", mininterval=2) as bar:
        for path, first, end in zip(paths, starts, ends, strict=True):
            if not path.is_file():
                _write_shard(postcards, range(first, end), path)
            bar.update(end - first)
    return paths


def _write_shard(postcards: Postcards, indices: range, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        with tarfile.open(partial, "w") as shard:
            for index in indices:
                picture = io.BytesIO()
                Image.fromarray(postcards.images([index])[0]).save(picture, "WEBP", lossless=True, quality=0)
                _add(shard, f"{index:08d}.webp", picture.getvalue())
                _add(
                    shard,
                    f"{index:08d}.txt",
                    "".join(f"{text}\n" for text in _texts(postcards, index)).encode(),
                )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _texts(postcards: Postcards, index: int) -> list[str]:
    """Different captions, none of them empty unless all are."""
    scene, sight = postcards.scene(index), postcards.sight(index)
    texts = [draw_caption(scene, sight, seed=CAPTION_SEED + n).text for n in range(CAPTIONS)]
    return list(dict.fromkeys(text for text in texts if text))


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))
