"""A picture's recipe, everything that made it, <-> the metadata of its PNG file.

It does not know how pictures are drawn. What it reads is not trusted: no path or address comes out of it.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from PIL import Image, PngImagePlugin

from ldm_pipeline.prompt_rows import NegativeRow, PromptRow, row_text
from ldm_pipeline.request import GenerationRequest, check_seed

SCHEMA = "ldm_recipe/1"
CHUNK = "ldm_recipe"
LARGEST_RECIPE_CHARACTERS = 1_000_000
LONGEST_NAME = 200
LIBRARIES = ("ldm-pipeline", "diffusers", "torch", "transformers", "numpy", "pillow")

# What A1111's web interface, and the tools that read its texts, call our schedulers and their noise levels;
# with a few names that only the others know.
SAMPLER_NAMES = {
    "DDIMScheduler": "DDIM",
    "DEISMultistepScheduler": "DEIS",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "EDMEulerScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "UniPCMultistepScheduler": "UniPC",
}
DPM_DEFAULTS = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
SDE = {**DPM_DEFAULTS, "algorithm_type": "sde-dpmsolver++"}
SAMPLERS_BY_CONFIG: list[tuple[str, dict[str, Any], str]] = [
    ("DPMSolverMultistepScheduler", DPM_DEFAULTS, "DPM++ 2M"),
    ("DPMSolverMultistepScheduler", SDE, "DPM++ 2M SDE"),
    ("DPMSolverMultistepScheduler", {**SDE, "solver_type": "heun"}, "DPM++ 2M SDE Heun"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, "DPM++ 3M SDE"),
    ("DPMSolverSinglestepScheduler", DPM_DEFAULTS, "DPM++ 2S"),
    ("PNDMScheduler", {"skip_prk_steps": True}, "PLMS"),
]
"""Class, what its config has to say, and name. What is none of these has no name there but its class."""
AUTOMATIC_IS_SPACED = {
    *("DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DPM++ SDE", "DPM2", "DPM2 a"),
}
"""Samplers whose schedule type "Automatic" is Karras or Exponential; others' is the model's own levels."""
SCHEDULE_TYPES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}
# A config that was taken over from another scheduler may hold options that its class does not read.
READ_NO_SCHEDULE_TYPE = (
    *("CMStochasticIterative", "CogVideoXDDIM", "CosineDPM", "DDIM", "DDPM", "EDM", "EulerAncestral"),
    *("FlowMatchHeun", "LCM", "PNDM", "TCD"),
)
READ_NO_TIMESTEP_SPACING = ("CMStochasticIterative", "CosineDPM", "DPMSolverSinglestep", "EDM", "FlowMatch")


class RecipeError(ValueError):
    """A file holds no recipe, or one that breaks the schema."""


@dataclass(frozen=True, kw_only=True)
class PictureRecipe:
    """Everything that made one picture; equal recipes are equal JSON."""

    request: GenerationRequest
    """What was asked for, with every default filled in."""
    picture: int = 0
    """Which picture of the request this is, counted prompt-major from 0."""
    model: str = ""
    """The model's name, never its path."""
    model_hash: str = ""
    """SHA-256 of the weights, hexadecimal; "" where the pipeline came from no folder."""
    lora: str = ""
    """The LoRA file's name, never its path; "" for none."""
    lora_hash: str = ""
    """SHA-256 of the LoRA file, hexadecimal."""
    scheduler: str = ""
    """The scheduler's class name."""
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    """The scheduler's configuration: JSON values, infinities as text."""
    image_hash: str = ""
    """SHA-256 of the input picture's pixels, hexadecimal; "" for a run that started from noise."""
    mask_hash: str = ""
    """SHA-256 of the mask's pixels, hexadecimal; "" for none."""
    device: str = ""
    """Kind of device, e.g. "cpu" or "cuda"."""
    dtype: str = ""
    """Number type of the network's weights, e.g. "float32"."""
    threads: int = 0
    """CPU threads; results on one and on two threads may differ in the last bit."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library name -> version."""
    pixels_hash: str = ""
    """SHA-256 of this picture's pixels, hexadecimal."""

    def __post_init__(self) -> None:
        """Check every field; a wrong one is a one-line RecipeError."""
        _check(isinstance(self.picture, int) and 0 <= self.picture < 1_000_000, "picture", self.picture)
        for name in ("model", "lora", "scheduler", "device", "dtype"):
            value = getattr(self, name)
            _check(
                isinstance(value, str) and len(value) <= LONGEST_NAME and value == plain_name(value),
                name,
                value,
            )
        for name in ("model_hash", "lora_hash", "image_hash", "mask_hash", "pixels_hash"):
            value = getattr(self, name)
            _check(
                isinstance(value, str) and re.fullmatch(r"([0-9a-f]{64})?", value) is not None, name, value
            )
        _check(isinstance(self.threads, int) and 0 <= self.threads < 1_000_000, "threads", self.threads)
        _check(isinstance(self.scheduler_config, Mapping), "scheduler_config", self.scheduler_config)
        _check(isinstance(self.versions, Mapping), "versions", self.versions)
        for library, number in self.versions.items():
            short = isinstance(number, str) and len(number) <= LONGEST_NAME and len(library) <= LONGEST_NAME
            _check(short, "versions", {library: number})
        if self.seed is not None:
            check_seed(self.seed)

    @property
    def seed(self) -> int | None:
        """This picture's own seed; None where the caller brought a generator, or latents and no seed."""
        return self.request.seeds[self.picture] if self.picture < len(self.request.seeds) else None

    @property
    def prompt(self) -> str:
        """This picture's own prompt; "" where the caller brought embeddings."""
        return self._text_of(self.request.prompts)

    @property
    def negative_prompt(self) -> str:
        """This picture's own negative prompt."""
        return self._text_of(self.request.negative_prompts)

    def _text_of(self, rows: Sequence[PromptRow | NegativeRow]) -> str:
        row = self.picture // self.request.num_images_per_prompt
        return row_text(rows[row]) if row < len(rows) else ""

    def to_json(self) -> str:
        """Canonical JSON: one line, keys sorted, every field, and this picture's prompt and seed."""
        plain = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        plain |= {"schema": SCHEMA, "request": json.loads(self.request.to_json())}
        plain |= {"seed": self.seed, "prompt": self.prompt, "negative_prompt": self.negative_prompt}
        plain |= {
            "versions": dict(self.versions),
            "scheduler_config": json_value(dict(self.scheduler_config)),
        }
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; RecipeError for anything else, however it was damaged."""
        if len(text) > LARGEST_RECIPE_CHARACTERS:
            raise RecipeError(
                f"the recipe has {len(text)} characters; at most {LARGEST_RECIPE_CHARACTERS} are read"
            )
        try:
            plain = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"the recipe is not JSON: {error}") from None
        if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
            found = plain.get("schema") if isinstance(plain, dict) else type(plain).__name__
            raise RecipeError(f"the recipe's schema is {_short(found)}; this version reads {SCHEMA!r}")
        for_readers = ("schema", "seed", "prompt", "negative_prompt")
        fields: dict[str, Any] = {name: value for name, value in plain.items() if name not in for_readers}
        known = {entry.name for entry in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise RecipeError(f"the recipe's field {_short(name)} is unknown in {SCHEMA}")
        if not isinstance(fields.get("request"), dict):
            raise RecipeError("the recipe holds no request")
        try:
            request = GenerationRequest.from_json(json.dumps(fields["request"]))
            return cls(**{**fields, "request": request})
        except RecipeError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise RecipeError(f"the recipe breaks its schema: {_short(str(error))}") from None


def read_recipe(path: str | os.PathLike[str]) -> PictureRecipe:
    """Reads the recipe from a PNG file; the pixels are not decoded.

    Raises:
        RecipeError: when the file is no PNG, carries no recipe, or one that breaks the schema.
        OSError: when the file cannot be read.
    """
    name = os.path.basename(os.fspath(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=["PNG"]) as picture:
                text = picture.info.get(CHUNK)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a foreign file may break Pillow's reader in any way
        raise RecipeError(f"{name} is not a PNG picture that can be read: {_short(str(error))}") from None
    if not isinstance(text, str):
        raise RecipeError(f"{name} carries no recipe; only PNG files saved by this project do")
    return PictureRecipe.from_json(text)


def png_metadata(recipe: PictureRecipe) -> PngImagePlugin.PngInfo:
    """The recipe as PNG chunks: iTXt `ldm_recipe`, which counts, and tEXt `parameters` for other tools."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CHUNK, recipe.to_json())
    info.add_text("parameters", parameters_text(recipe))
    return info


def parameters_text(recipe: PictureRecipe) -> str:
    """The recipe in the form of A1111's web interface: prompt, negative prompt, and a line "Steps: ..."."""
    request = recipe.request
    fields: dict[str, object] = {
        "Steps": request.num_inference_steps,
        "Sampler": sampler_name(recipe),
        "Schedule type": schedule_type(recipe),
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": recipe.seed,
        "Size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "Model hash": recipe.model_hash[:10],
        "Model": recipe.model.replace(",", " "),
        "Denoising strength": None if request.strength is None else f"{request.strength:g}",
        "Version": f"ldm-pipeline {recipe.versions.get('ldm-pipeline', '')}".strip(),
    }
    lines = [recipe.prompt]
    if recipe.negative_prompt:
        lines.append(f"Negative prompt: {recipe.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items() if value not in (None, "")))
    return "\n".join(lines)


def sampler_name(recipe: PictureRecipe) -> str:
    """A1111's name of the scheduler; its class name where A1111 has none."""
    config = {**DPM_DEFAULTS, **recipe.scheduler_config}
    for class_name, wanted, name in SAMPLERS_BY_CONFIG:
        if class_name == recipe.scheduler and all(config.get(key) == value for key, value in wanted.items()):
            return name
    return SAMPLER_NAMES.get(recipe.scheduler, recipe.scheduler)


def schedule_type(recipe: PictureRecipe) -> str | None:
    """A1111's name of how noise levels are spaced, as it writes it since 1.9; None where it has none."""
    scheduler, config, request = recipe.scheduler, recipe.scheduler_config, recipe.request
    if not scheduler or request.timesteps or request.sigmas:
        return None
    if not scheduler.startswith(READ_NO_SCHEDULE_TYPE):
        for option, name in SCHEDULE_TYPES.items():
            if config.get(option):
                return name
    if scheduler.startswith("EDM"):
        return "Exponential" if config.get("sigma_schedule") == "exponential" else "Karras"
    if scheduler == "DPMSolverMultistepScheduler" and config.get("use_lu_lambdas"):
        return None
    reads_spacing = not scheduler.startswith(READ_NO_TIMESTEP_SPACING) and not config.get("use_flow_sigmas")
    if reads_spacing and config.get("timestep_spacing") == "trailing":
        return "SGM Uniform"
    return "Uniform" if sampler_name(recipe) in AUTOMATIC_IS_SPACED else "Automatic"


def pixels_hash(picture: Image.Image) -> str:
    """SHA-256 of mode, size and pixels, hexadecimal: equal for equal pictures in whatever file."""
    head = f"{picture.mode} {picture.width}x{picture.height}\n".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a picture depends on; one that is not installed is left out."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def plain_name(text: str) -> str:
    """The last part of a path, or the text itself, without what could be read as a path or an address."""
    return re.sub(r"[\x00-\x1f:]", "_", re.split(r"[/\\]", text.rstrip("/\\"))[-1])[:LONGEST_NAME]


def json_value(value: Any) -> Any:
    """A configuration value as JSON: tuples and arrays as lists, infinities and foreign things as text."""
    if isinstance(value, Mapping):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    if (
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    as_list = getattr(value, "tolist", None)
    return json_value(as_list()) if as_list is not None else str(value)


def _check(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise RecipeError(f"the recipe's {name} is {_short(value)}, which its schema does not allow")


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return " ".join(text.split())[:120]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
