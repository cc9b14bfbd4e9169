"""A pipeline folder as files: where the bundled one lies, what may be in one, what identifies it.

Knows nothing of what the components compute; it imports no torch and builds nothing.
"""

import functools
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

MODELS = Path(__file__).parent / "models"
DEFAULTS_FILE = "generation_defaults.json"
KNOWN_WORDS_FILE = "tokenizer/known_words.txt"
SAVED_CLASS_NAME = "StableDiffusionPipeline"

ALLOWED_PIPELINES = {
    "LatentDiffusionPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
}
SCHEDULER_NAMES = [
    "DDIM",
    "DDPM",
    "DEISMultistep",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "DPMSolverSDE",
    "EulerAncestralDiscrete",
    "EulerDiscrete",
    "FlowMatchEulerDiscrete",
    "FlowMatchHeunDiscrete",
    "HeunDiscrete",
    "KDPM2AncestralDiscrete",
    "KDPM2Discrete",
    "LCM",
    "LMSDiscrete",
    "PNDM",
    "TCD",
    "UniPCMultistep",
]
ALLOWED_COMPONENTS: dict[str, set[tuple[str, str]]] = {
    "unet": {("diffusers", "UNet2DConditionModel")},
    "vae": {("diffusers", "AutoencoderKL")},
    "text_encoder": {("transformers", "CLIPTextModel"), ("transformers", "CLIPTextModelWithProjection")},
    "tokenizer": {("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")},
    "scheduler": {("diffusers", f"{name}Scheduler") for name in SCHEDULER_NAMES},
    "safety_checker": {("stable_diffusion", "StableDiffusionSafetyChecker")},
    "feature_extractor": {("transformers", "CLIPImageProcessor"), ("transformers", "CLIPFeatureExtractor")},
    "image_encoder": {("transformers", "CLIPVisionModelWithProjection")},
}
"""Component name to the (library, class) pairs that may be built for it: stock classes only."""


def bundled_folder(name: str = "postcards") -> Path:
    """Give the folder of a bundled model; ValueError, naming those there are, for another name."""
    folder = MODELS / name
    if not name.isidentifier() or not folder.is_dir():
        there = sorted(path.name for path in MODELS.glob("*") if path.is_dir())
        raise ValueError(f"there is no bundled model {name!r}: there is {', '.join(there) or 'none'}")
    return folder


def check_model_index(folder: Path) -> None:
    """Refuse, before anything is built, a folder whose `model_index.json` names what we do not run.

    ValueError for another pipeline, an unknown component, a (library, class) outside `ALLOWED_COMPONENTS`,
    and weights that lie there as pickles only.
    """
    index = read_json_object(folder / "model_index.json")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in ALLOWED_PIPELINES:
        allowed = ", ".join(sorted(ALLOWED_PIPELINES))
        raise ValueError(f"{folder} holds {pipeline!r}: this pipeline opens {allowed}")
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if name not in ALLOWED_COMPONENTS:
            raise ValueError(
                f"{folder} names a component {name!r}: known are {', '.join(ALLOWED_COMPONENTS)}"
            )
        if value == [None, None]:
            continue
        if tuple(map(str, value)) not in ALLOWED_COMPONENTS[name]:
            allowed = ", ".join(".".join(pair) for pair in sorted(ALLOWED_COMPONENTS[name]))
            raise ValueError(f"{folder} wants {name} to be {value}: allowed are {allowed}")
        _refuse_pickles(folder / name)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; ValueError naming the file when it is missing or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no pipeline folder: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: a JSON object is needed")
    return content


def read_generation_defaults(folder: Path) -> str | None:
    """Give the text of a folder's `generation_defaults.json`, None where it has none."""
    path = folder / DEFAULTS_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


def read_known_words(folder: Path) -> frozenset[str] | None:
    """Give the words that a folder's model was trained on, None where it does not say."""
    path = folder / KNOWN_WORDS_FILE
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None


def model_hash(folder: Path) -> str:
    """Give the SHA-256 (64 hex digits) of what a folder computes: its components' file names and contents.

    Model cards, generation defaults and `model_index.json` do not count, nor does the folder's own place.
    """
    digest = hashlib.sha256()
    for name in sorted(ALLOWED_COMPONENTS):
        for path in sorted(path for path in (folder / name).rglob("*") if path.is_file()):
            status = path.stat()
            content = _file_hash(path, status.st_mtime_ns, status.st_size)
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


@contextmanager
def readable_weights(source: str) -> Iterator[None]:
    """Turn a damaged safetensors file's error, a plain Exception, into a ValueError that names `source`."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{source} holds weights that cannot be read ({error}): copy or export them again"
        ) from error


def name_as_stable_diffusion(folder: Path) -> None:
    """Make a just-saved folder open everywhere, and free of this machine's paths.

    diffusers' generic classes cannot open a folder that names our class; the components are all stock ones.
    A float16 text encoder's config asks transformers for float16, while diffusers' networks load as float32
    whatever they are saved as, and the two do not fit: it is made to ask for float32. Without an entry
    transformers would take the saved type.
    """
    index_path = folder / "model_index.json"
    index = read_json_object(index_path)
    write_json(index_path, {**index, "_class_name": SAVED_CLASS_NAME})
    for path in [index_path, *folder.glob("*/*.json")]:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            continue
        cleaned = {k: v for k, v in content.items() if k not in ("_name_or_path", "name_or_path")}
        if path.name == "config.json":
            cleaned |= {name: "float32" for name in ("dtype", "torch_dtype") if name in content}
        if cleaned != content:
            write_json(path, cleaned)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object as diffusers does: indented, sorted, and whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(fresh, path)


def write_old_text_encoder_keys(folder: Path) -> None:
    """Make a folder's text encoder and tokenizer readable by older tools as well.

    transformers >= 5.6 saves `CLIPTextModel` without the `text_model.` prefix and its tokenizer without
    `vocab.json` and `merges.txt`; transformers <= 5.5, ComfyUI's and A1111's converters want all three, and
    new transformers read both. Only names in the files' headers change; doing it twice is harmless.
    """
    for path in sorted((folder / "text_encoder").glob("*.safetensors")):
        _rename_tensors(path)
    for path in (folder / "text_encoder").glob("*.safetensors.index.json"):
        index = read_json_object(path)
        weight_map = {_old_key(key): value for key, value in index["weight_map"].items()}
        write_json(path, {**index, "weight_map": weight_map})
    model = read_json_object(folder / "tokenizer" / "tokenizer.json")["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False)
    (folder / "tokenizer" / "vocab.json").write_text(vocabulary + "\n", encoding="utf-8")
    merges_text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "tokenizer" / "merges.txt").write_text(merges_text, encoding="utf-8")


def _refuse_pickles(component: Path) -> None:
    pickles = [
        path.name for pattern in ("*.bin", "*.ckpt", "*.pt", "*.pth") for path in component.glob(pattern)
    ]
    if pickles and not any(component.glob("*.safetensors")):
        raise ValueError(
            f"{component} holds {pickles[0]} but no safetensors: convert it, for pickles can run code"
        )


@functools.lru_cache(maxsize=1024)
def _file_hash(path: Path, modified_ns: int, size: int) -> str:
    """Hash a file's content; time and size are part of the cache's key only."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _old_key(key: str) -> str:
    plain = key.startswith(("text_model.", "text_projection."))
    return key if plain else f"text_model.{key}"


def _rename_tensors(path: Path) -> None:
    """Rewrite names in a safetensors header: 8 bytes of length, JSON padded with spaces, then the data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    renamed = {key if key == "__metadata__" else _old_key(key): value for key, value in header.items()}
    if renamed == header:
        return
    text = json.dumps(renamed, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    os.replace(fresh, path)
