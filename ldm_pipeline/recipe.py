"""A picture's recipe, everything that made it, <-> canonical JSON.

It does not know how pictures are drawn, nor where a recipe lies in a file. What it reads is not trusted: no
path or address comes out of it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from PIL import Image

from ldm_pipeline.prompt_rows import NegativeRow, PromptRow, row_text, row_texts
from ldm_pipeline.recipe_parts import (
    GeneratorRecord,
    InputRecord,
    LoraRecord,
    RecipeError,
    RegionRecord,
    check,
    check_config,
    check_entries,
    check_hash,
    check_name,
    check_number,
    check_text,
    check_whole,
    json_value,
    read_json,
    short,
    write_json,
)
from ldm_pipeline.request import GenerationRequest, check_seed

SCHEMA = "ldm_recipe/2"
FIRST_SCHEMA = "ldm_recipe/1"
LARGEST_RECIPE_CHARACTERS = 1_000_000
MOST_PICTURES = 1_000_000
LIBRARIES = ("ldm-pipeline", "diffusers", "torch", "transformers", "numpy", "pillow", "peft")
LARGEST_SETTINGS: dict[str, float] = {
    "num_images_per_prompt": MOST_PICTURES,
    "height": 65_536,
    "width": 65_536,
    "padding_mask_crop": 65_536,
    "clip_skip": 1_000,
    "guidance_scale": 1e6,
}
"""Bounds of a request in a recipe, so that nobody is made to draw a picture that no memory holds."""


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
    """SHA-256 of the weights as the folder or file has them, or of the networks in memory where they came
    from none, hexadecimal, whatever `dtypes` they were loaded in; "" where they changed since the call."""
    loras: tuple[LoraRecord, ...] = ()
    """The LoRAs that acted."""
    lora_scale: float | None = None
    """What `cross_attention_kwargs` multiplied their weights by; None: nothing."""
    scheduler: str = ""
    """The scheduler's class name."""
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    """The scheduler's configuration: JSON values, infinities as text."""
    guider: str = ""
    """Class name of diffusers' guider, in place of `guidance_scale`; "" for none."""
    guider_config: Mapping[str, Any] = field(default_factory=dict)
    """The guider's configuration, as the scheduler's."""
    regions: tuple[RegionRecord, ...] = ()
    """Phrases that acted in parts of the picture."""
    generator: GeneratorRecord | None = None
    """What drew the noise, where no seed did."""
    inputs: tuple[InputRecord, ...] = ()
    """Pictures and tensors that were given, by hash; several of one name are one per row or per picture."""
    unrecorded: tuple[str, ...] = ()
    """Names of what acted on the picture and no recipe can hold, e.g. a callback."""
    withheld: tuple[str, ...] = ()
    """Names of what the writer left out of a public recipe."""
    device: str = ""
    """Kind of device, e.g. "cpu" or "cuda"."""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    """Network -> number type that it computed in, e.g. {"unet": "float32"}."""
    threads: int = 0
    """CPU threads; results on one and on two threads may differ in the last bit."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What else decides the last bits: machine, the CPU's capability or the GPU's name, kernels."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library name -> version."""
    pixels_hash: str = ""
    """SHA-256 of this picture's pixels, hexadecimal; "" for a result that is no PIL picture."""

    def __post_init__(self) -> None:
        """Check every field; a wrong one is a one-line RecipeError."""
        check_whole("picture", self.picture, MOST_PICTURES)
        for name in ("model", "scheduler", "guider", "device"):
            check_name(name, getattr(self, name))
        for name in ("model_hash", "pixels_hash"):
            check_hash(name, getattr(self, name))
        check_entries("loras", self.loras, LoraRecord)
        check_entries("regions", self.regions, RegionRecord)
        check_entries("inputs", self.inputs, InputRecord)
        if self.lora_scale is not None:
            check_number("lora_scale", self.lora_scale, -1e6, 1e6)
        for name in ("unrecorded", "withheld"):
            check_entries(name, getattr(self, name), str)
            for entry in getattr(self, name):
                check_name(name, entry)
        check(isinstance(self.generator, GeneratorRecord | None), "generator", self.generator)
        check_whole("threads", self.threads, MOST_PICTURES)
        for name in ("scheduler_config", "guider_config", "dtypes", "environment", "versions"):
            value = getattr(self, name)
            check(isinstance(value, Mapping), name, value)
            check_config(name, value)
        for name in ("dtypes", "environment", "versions"):
            check(all(isinstance(entry, str) for entry in getattr(self, name).values()), name, "no text")
        _check_request(self.request)
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

    @property
    def dtype(self) -> str:
        """Number type of the UNet, e.g. "float32"."""
        return self.dtypes.get("unet", "")

    @property
    def needs(self) -> tuple[InputRecord, ...]:
        """What it takes to draw the picture again beside the model and this recipe; empty: nothing."""
        masks = [
            InputRecord(name=f"mask of region {number}", hash=region.mask_hash)
            for number, region in enumerate(self.regions)
            if region.mask_hash
        ]
        loras = [InputRecord(name=f"lora {lora.name}"[:200], hash=lora.hash) for lora in self.loras]
        weights = ["lora weights by layer"] if any(lora.uneven for lora in self.loras) else []
        # What is no plain value there (layers to skip) is kept as text, from which nothing can be built.
        as_text = any(isinstance(value, str | list) for value in self.guider_config.values())
        layers = [f"layers of {self.guider}"] if as_text else []
        missing = [InputRecord(name=name) for name in (*weights, *layers, *self.unrecorded, *self.withheld)]
        return (*self.inputs, *masks, *loras, *missing)

    @property
    def replayable(self) -> bool:
        """Whether the model and this recipe are enough to draw the picture again."""
        return not self.needs

    def hashes_of(self, name: str) -> tuple[str, ...]:
        """The hashes of the inputs of one name, e.g. "image", in their order; empty: none was given."""
        return tuple(entry.hash for entry in self.inputs if entry.name == name)

    def _text_of(self, rows: Sequence[PromptRow | NegativeRow]) -> str:
        row = self.picture // self.request.num_images_per_prompt
        return row_text(rows[row]) if row < len(rows) else ""

    def public(self) -> "PictureRecipe":
        """This recipe without what a picture's maker may want to keep: texts, LoRAs, inputs, the machine.

        Only this picture's seed stays of the request's, and hashes go with the names: a hash of a guessed
        text or of a known picture would tell whether the guess is right.
        """
        request = self.request
        kept_back = {
            "prompt": request.prompts,
            "negative_prompt": any(row_texts(request.negative_prompts)),
            "regions": self.regions,
            "loras": self.loras,
            "inputs": self.inputs,
        }
        alone = replace(
            request,
            prompts=(),
            negative_prompts=(),
            seeds=() if self.seed is None else (self.seed,),
            num_images_per_prompt=1,
        )
        ours = {name: number for name, number in self.versions.items() if name == LIBRARIES[0]}
        return PictureRecipe(
            request=alone,
            model=self.model,
            model_hash=self.model_hash,
            scheduler=self.scheduler,
            scheduler_config=self.scheduler_config,
            guider=self.guider,
            guider_config=self.guider_config,
            generator=self.generator,
            unrecorded=self.unrecorded,
            withheld=tuple(name for name, value in kept_back.items() if value) or self.withheld,
            versions=ours,
            pixels_hash=self.pixels_hash,
        )

    def to_json(self) -> str:
        """Canonical JSON: one line, keys sorted, every field, and for readers what follows from them."""
        plain = {entry.name: _plain(getattr(self, entry.name)) for entry in dataclasses.fields(self)}
        plain |= {"schema": SCHEMA, "request": json.loads(self.request.to_json())}
        plain |= {"seed": self.seed, "prompt": self.prompt, "negative_prompt": self.negative_prompt}
        plain |= {"needs": _plain(self.needs), "replayable": self.replayable}
        return write_json(plain)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote, of this schema or the first; RecipeError for anything else."""
        plain = read_json(text, largest=LARGEST_RECIPE_CHARACTERS)
        found = plain.get("schema") if isinstance(plain, dict) else type(plain).__name__
        if not isinstance(plain, dict) or found not in (SCHEMA, FIRST_SCHEMA):
            raise RecipeError(f"the recipe's schema is {short(found)}; this version reads {SCHEMA!r}")
        for_readers = ("schema", "seed", "prompt", "negative_prompt", "needs", "replayable")
        fields: dict[str, Any] = {name: value for name, value in plain.items() if name not in for_readers}
        if found == FIRST_SCHEMA:
            fields = _from_first_schema(fields)
        known = {entry.name for entry in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise RecipeError(f"the recipe's field {short(name)} is unknown in {found}")
        if not isinstance(fields.get("request"), dict):
            raise RecipeError("the recipe holds no request")
        try:
            request = GenerationRequest.from_json(json.dumps(fields["request"]))
            parts = {name: _read_part(name, fields[name]) for name in PARTS if name in fields}
            return cls(**{**fields, **parts, "request": request})
        except RecipeError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
            raise RecipeError(f"the recipe breaks its schema: {short(error)}") from None


def pixels_hash(picture: Image.Image) -> str:
    """SHA-256 of mode, size and pixels, hexadecimal: equal for equal pictures in whatever file."""
    head = f"{picture.mode} {picture.width}x{picture.height}\n".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


@cache
def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a picture depends on; one that is not installed is left out."""
    return {library: _installed(library) for library in LIBRARIES if _installed(library)}


def _plain(value: Any) -> Any:
    """A field as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return json_value(value) if isinstance(value, Mapping) else value


def _lora(plain: Any) -> LoraRecord:
    return LoraRecord(**plain)


def _region(plain: Any) -> RegionRecord:
    box = plain.get("box")
    return RegionRecord(**{**plain, "box": tuple(box) if isinstance(box, list) else box})


def _input(plain: Any) -> InputRecord:
    return InputRecord(**plain)


def _text(plain: Any) -> str:
    return plain


PARTS: dict[str, Callable[[Any], Any]] = {
    "loras": _lora,
    "regions": _region,
    "inputs": _input,
    "unrecorded": _text,
    "withheld": _text,
    "generator": lambda plain: None if plain is None else GeneratorRecord(**plain),
}
"""How fields that are no plain values are read; all but the generator are lists."""


def _read_part(name: str, value: Any) -> Any:
    read = PARTS[name]
    if name == "generator":
        return read(value)
    check(isinstance(value, list), name, value)
    return tuple(read(entry) for entry in value)


def _from_first_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of ldm_recipe/1, where there was one LoRA, and one picture and mask, as they are called now."""
    old = ("lora", "lora_hash", "image_hash", "mask_hash", "dtype")
    for name in old:
        check(isinstance(fields.get(name, ""), str), name, fields.get(name))
    given = {name: fields.get(name, "") for name in old}
    names = {"image_hash": "image", "mask_hash": "mask_image"}
    return {
        **{name: value for name, value in fields.items() if name not in old},
        "loras": [{"name": given["lora"], "hash": given["lora_hash"]}] if given["lora"] else [],
        "inputs": [{"name": new, "hash": given[name]} for name, new in names.items() if given[name]],
        "dtypes": {"unet": given["dtype"]} if given["dtype"] else {},
    }


def _check_request(request: GenerationRequest) -> None:
    """Bound what a request leaves open: lengths of texts, counts and sizes."""
    for name in ("prompts", "negative_prompts", "seeds", "timesteps", "sigmas"):
        rows = getattr(request, name) or ()
        check(len(rows) <= MOST_PICTURES, f"request's {name}", f"a list of {len(rows)}")
    for text in row_texts([*request.prompts, *request.negative_prompts]):
        check_text("request's prompts", text)
    for name, largest in LARGEST_SETTINGS.items():
        value = getattr(request, name)
        if value is not None:
            check_number(f"request's {name}", value, 0, largest)
    if request.scheduler is not None:
        check_name("request's scheduler", request.scheduler)
