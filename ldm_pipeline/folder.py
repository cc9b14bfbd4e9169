"""A pipeline folder as files: where the bundled one lies, what may be in one, what identifies it.

Knows nothing of what the components compute; it imports no torch and builds nothing.
"""

import functools
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

MODELS = Path(__file__).parent / "models"
DEFAULTS_FILE = "generation_defaults.json"
LORA_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' name for a LoRA's weights."""
FEW_STEPS_FACT = "ldm_few_steps"
"""In the header of a LoRA for few steps: how many it was made for."""
MOST_DIGITS = 4
"""A number of steps with as many is nobody's few."""
KNOWN_WORDS_FILE = "tokenizer/known_words.txt"
INPAINTING_CHANNELS = 9
PICKLE_ENDINGS = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
LARGEST_JSON_BYTES = 16 * 2**20
"""CLIP's whole tokenizer has some 4 MB."""

ALLOWED_PIPELINES = {
    "LatentDiffusionPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
}
SCHEDULER_NAMES = [
    "CMStochasticIterative",
    "CogVideoXDDIM",
    "CosineDPMSolverMultistep",
    "DDIM",
    "DDIMParallel",
    "DDPM",
    "DDPMParallel",
    "DEISMultistep",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "DPMSolverSDE",
    "EDMDPMSolverMultistep",
    "EDMEuler",
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
    "SASolver",
    "TCD",
    "UniPCMultistep",
]
"""Those of diffusers 0.42.1 that all three Stable Diffusion pipelines run, found by running each, and two for
rectified flow. "Inverse" ones are left out: they lead from a picture to noise."""
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


def lora_path(name: str | os.PathLike[str]) -> Path:
    """Give the file of a bundled LoRA, such as "few_steps", for its name; anything else is a path already."""
    text = os.fspath(name)
    bundled = MODELS / text / LORA_FILE
    return bundled if text.isidentifier() and not Path(text).exists() and bundled.is_file() else Path(text)


def few_steps_of(lora: Path) -> int | None:
    """How many denoising steps a LoRA was made for, by its header; None for one that says nothing of it."""
    with safe_open(lora, framework="np") as file:
        told = (file.metadata() or {}).get(FEW_STEPS_FACT, "")
    return int(told) if told.isdecimal() and len(told) < MOST_DIGITS and int(told) > 0 else None


def check_model_index(folder: Path, *, replaced: Collection[str] = ()) -> None:
    """Refuse, before anything is built, a folder that asks for what we do not run or cannot be read whole.

    ValueError for another pipeline, an unknown component, a (library, class) outside `ALLOWED_COMPONENTS`,
    a component that is missing or lies there as a pickle only, weights with a damaged header, and a list of
    shards that leads out of its folder. Components named in `replaced` are not opened, hence not checked.
    """
    index = read_json_object(folder / "model_index.json")
    shown, pipeline = one_line(folder), index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in ALLOWED_PIPELINES:
        allowed = ", ".join(sorted(ALLOWED_PIPELINES))
        raise ValueError(f"{shown} holds {pipeline!r}: this pipeline opens {allowed}")
    for name, value in index.items():
        if name.startswith("_") or (name not in ALLOWED_COMPONENTS and not isinstance(value, list | dict)):
            continue  # the pipeline's settings
        if name not in ALLOWED_COMPONENTS:
            raise ValueError(f"{shown} names a component {name!r}: known are {', '.join(ALLOWED_COMPONENTS)}")
        if value == [None, None]:
            continue
        if not isinstance(value, list) or tuple(map(str, value)) not in ALLOWED_COMPONENTS[name]:
            allowed = ", ".join(".".join(pair) for pair in sorted(ALLOWED_COMPONENTS[name]))
            raise ValueError(f"{shown} wants {name} to be {value!r}: allowed are {allowed}")
        if name not in replaced:
            _check_component(folder / name)


def _check_component(component: Path) -> None:
    """Refuse a component's folder that is missing, holds pickles only, or has damaged or foreign files."""
    if not component.is_dir():
        raise ValueError(f"{one_line(component)} is missing: copy the whole folder, or pass the component")
    for path in component.glob("*.json"):
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError(f"{one_line(path)} has over {LARGEST_JSON_BYTES} bytes: it is no description")
        if path.name.endswith("config.json"):
            read_json_object(path)
    weights = sorted(component.glob("*.safetensors"))
    pickles = sorted(path for path in component.iterdir() if path.suffix in PICKLE_ENDINGS)
    if pickles and not weights:
        raise ValueError(
            f"{one_line(component)} holds {one_line(pickles[0].name)} but no safetensors:"
            f" {pickle_remedy(pickles[0])}"
        )
    for path in component.glob("*.safetensors.index*.json"):
        parts = read_json_object(path).get("weight_map")
        names = set(map(str, parts.values())) if isinstance(parts, dict) else {""}
        for name in sorted(names - {file.name for file in weights}):
            raise ValueError(
                f"{one_line(path)} names {name!r}:"
                " a part of the weights must lie beside it and end in .safetensors"
            )
    for path in weights:
        check_weights_header(path)


def check_weights_header(path: Path) -> None:
    """Refuse a safetensors file whose header is damaged or tells another size; the data are not read."""
    with readable_weights(str(path)), safe_open(path, framework="np"):
        pass


def pickle_remedy(path: Path) -> str:
    """Say what to do with a pickle: the command that makes safetensors of it, under the libraries' names."""
    safe = path.with_suffix(".safetensors")
    if path.name.startswith("pytorch_model"):  # transformers' name
        safe = safe.with_name(safe.name.removeprefix("pytorch_"))
    return f"pickles can run code, run `ldm convert {one_line(path)} {one_line(safe)}` first"


def one_line(text: object) -> str:
    """Write out line breaks and other control characters, so that a message stays a line."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; ValueError naming the file when it is missing or something else."""
    shown = one_line(path)
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError(f"it has over {LARGEST_JSON_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{one_line(path.parent)} is no pipeline folder: {one_line(path.name)} is missing"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown} cannot be read as JSON: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{shown} holds a {type(content).__name__}: a JSON object is needed")
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
    for path in component_files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def component_files(folder: Path) -> list[Path]:
    """List the files of a folder's components, in the order in which `model_hash` reads them."""
    inside = [sorted((folder / name).rglob("*")) for name in sorted(ALLOWED_COMPONENTS)]
    return [path for paths in inside for path in paths if path.is_file()]


def file_hash(path: Path) -> str:
    """Give the SHA-256 (64 hex digits) of a file's content; read again only when its size or time changes."""
    status = path.stat()
    return _file_hash(path, status.st_mtime_ns, status.st_size)


@contextmanager
def readable_weights(source: str) -> Iterator[None]:
    """Turn a damaged safetensors file's error, a plain Exception, into a ValueError that names `source`."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{one_line(source)} holds weights that cannot be read ({one_line(error)}):"
            " copy or export them again"
        ) from error


@contextmanager
def one_line_errors(source: str) -> Iterator[None]:
    """Turn whatever the libraries raise over a stranger's files into a ValueError of one line."""
    try:
        yield
    except Exception as error:  # settings from strangers make any line of the libraries fail
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{one_line(source)} cannot be opened: {one_line(reason)}") from error


def name_as_stable_diffusion(folder: Path) -> None:
    """Make a just-saved folder open everywhere, and free of this machine's paths.

    diffusers' generic classes cannot open a folder that names our class; the components are all stock ones.
    Only its inpainting class runs a UNet that reads a mask and a masked picture beside the latents.
    A float16 text encoder's config asks transformers for float16, while diffusers' networks load as float32
    whatever they are saved as, and the two do not fit: it is made to ask for float32. Without an entry
    transformers would take the saved type.
    """
    index_path = folder / "model_index.json"
    index = read_json_object(index_path)
    unet = folder / "unet" / "config.json"
    inpaints = unet.is_file() and read_json_object(unet).get("in_channels") == INPAINTING_CHANNELS
    name = "StableDiffusionInpaintPipeline" if inpaints else "StableDiffusionPipeline"
    write_json(index_path, {**index, "_class_name": name})
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
    for path in (folder / "text_encoder").glob("*.safetensors.index*.json"):
        index = read_json_object(path)
        weight_map = {_old_key(key): value for key, value in index["weight_map"].items()}
        write_json(path, {**index, "weight_map": weight_map})
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        return  # a pipeline in parts
    model = read_json_object(folder / "tokenizer" / "tokenizer.json")["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False)
    (folder / "tokenizer" / "vocab.json").write_text(vocabulary + "\n", encoding="utf-8")
    merges_text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "tokenizer" / "merges.txt").write_text(merges_text, encoding="utf-8")


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
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        renamed = {key if key == "__metadata__" else _old_key(key): value for key, value in header.items()}
        if renamed == header:
            return
        text = json.dumps(renamed, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        fresh = path.with_name(path.name + ".new")
        with fresh.open("wb") as copy:
            copy.write(struct.pack("<Q", len(text)) + text)
            shutil.copyfileobj(file, copy, 2**20)
    os.replace(fresh, path)
