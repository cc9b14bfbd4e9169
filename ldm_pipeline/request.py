"""What was asked for: every setting of a generation as one checked, frozen value that goes to JSON and back.

Knows nothing of torch, of the network or of the files that pictures are read from and written to.
"""

import dataclasses
import difflib
import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ldm_pipeline.prompt_rows import (
    NegativeRow,
    PromptInput,
    PromptRow,
    check_negative,
    check_prompt,
    texts,
    tuples,
)
from ldm_pipeline.prompt_syntax import LongPrompt, PromptSyntax

LARGEST_SEED = 2**32 - 1
LARGEST_STEPS = 1000
STARTS = ("noise", "picture", "masked picture")

Start = Literal["noise", "picture", "masked picture"]
Blend = Literal["exact", "feather", "none"]


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """Settings used where a call leaves an argument at None; a folder's `generation_defaults.json`.

    The values here are diffusers' own, for folders without that file.
    """

    num_inference_steps: int = 50
    """Denoising steps, 1 to 1000."""
    guidance_scale: float = 7.5
    """Weight of classifier-free guidance; 1 or less turns it off."""
    guidance_rescale: float = 0.0
    """Share of the guided prediction rescaled to the conditional one's spread, 0 to 1."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Fractions of the schedule [start, stop) in which guidance acts."""
    negative_start: float = 0.0
    """Fraction of the schedule before which the empty prompt stands in for the negative prompt."""
    height: int | None = None
    """Pixels; None: the UNet's sample size times the VAE's factor."""
    width: int | None = None
    """Pixels; None: as for height."""
    scheduler: str | None = None
    """Scheduler class name in diffusers; None: the folder's own."""

    def __post_init__(self) -> None:
        """Check every field; a wrong one is a one-line ValueError."""
        _check_sampling(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a JSON object; an unknown field is a ValueError that names the nearest known one."""
        return _from_json(cls, text)

    def to_json(self) -> str:
        """Write an indented JSON object of the fields that differ from diffusers' defaults."""
        plain = dataclasses.asdict(self)
        named = {f.name: plain[f.name] for f in dataclasses.fields(self) if plain[f.name] != f.default}
        return json.dumps(named, indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One request: all settings that are plain values. Pictures, masks and tensors travel beside it.

    Pictures are counted prompt-major: picture `i` belongs to prompt `i // num_images_per_prompt`.
    """

    prompts: tuple[PromptRow, ...] = ()
    """One text, or sum of texts, per row; empty when the call was given `prompt_embeds`."""
    negative_prompts: tuple[NegativeRow, ...] = ()
    """Empty, or one text, or several, per prompt ("" for none)."""
    seeds: tuple[int, ...] = ()
    """One per picture, 0 to 2^32-1; empty when the call was given `generator`, or `latents` and no seed."""
    num_images_per_prompt: int = 1
    """Pictures per prompt, at least 1."""
    num_inference_steps: int = 50
    """Denoising steps of the whole schedule, 1 to 1000."""
    guidance_scale: float = 7.5
    """Weight of classifier-free guidance; 1 or less turns it off."""
    guidance_rescale: float = 0.0
    """Share of the guided prediction rescaled to the conditional one's spread, 0 to 1."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Fractions of the schedule [start, stop) in which guidance acts."""
    negative_start: float = 0.0
    """Fraction of the schedule before which the empty prompt stands in for the negative prompt."""
    height: int | None = None
    """Pixels of the result; None: the model's own size."""
    width: int | None = None
    """Pixels of the result; None: the model's own size."""
    start: Start = "noise"
    """What the latents start from: noise, a picture, or a masked picture."""
    strength: float | None = None
    """Share of the schedule that is run, in (0, 1]; None when the run starts from noise."""
    scheduler: str | None = None
    """Scheduler class name in diffusers; None: the model folder's own."""
    eta: float = 0.0
    """DDIM's noise share, 0 to 1; other schedulers ignore it."""
    clip_skip: int | None = None
    """Text encoder layers left out at the end; None: none, 0: none but through hidden states."""
    long_prompt: LongPrompt = "truncate"
    """What becomes of a prompt longer than the text encoder reads: cut off, or read in chunks."""
    prompt_syntax: PromptSyntax = "plain"
    """Whether `(word:1.3)` and `[word]` weigh words, as in A1111, or are read as they stand."""
    blend: Blend = "exact"
    """How a painted part joins the kept one: kept pixels exact, a soft edge, or all pixels as decoded."""
    padding_mask_crop: int | None = None
    """Pixels around the mask that are painted at full size and put back; None: the whole picture."""
    step_cache_interval: int = 1
    """Every so many steps the whole network is run, between them its shallow layers; 1: always."""
    exact: bool = False
    """Whether every picture was computed alone, so that its bits do not depend on its neighbors."""
    timesteps: tuple[int, ...] | None = None
    """Own timesteps in place of `num_inference_steps`, descending."""
    sigmas: tuple[float, ...] | None = None
    """Own noise levels in place of `num_inference_steps`, descending."""

    def __post_init__(self) -> None:
        """Check every field; a wrong one is a one-line ValueError."""
        for row in _tuple("prompts", self.prompts):
            check_prompt(row)
        for row in _tuple("negative_prompts", self.negative_prompts):
            check_negative(row)
        _check_whole("num_images_per_prompt", self.num_images_per_prompt, 1, None)
        if self.prompts and self.negative_prompts and len(self.negative_prompts) != len(self.prompts):
            raise ValueError(
                f"negative_prompt has {len(self.negative_prompts)} texts for {len(self.prompts)} prompts:"
                " give one text for all, or one per prompt"
            )
        for seed in _tuple("seeds", self.seeds):
            check_seed(seed)
        pictures = len(self.prompts) * self.num_images_per_prompt
        if self.prompts and self.seeds and len(self.seeds) != pictures:
            raise ValueError(
                f"seed has {len(self.seeds)} numbers for {pictures} pictures: give one number or {pictures}"
            )
        _check_sampling(self)
        if self.start not in STARTS:
            raise ValueError(f"start={self.start!r} is unknown: use one of {', '.join(map(repr, STARTS))}")
        if (self.strength is None) != (self.start == "noise"):
            raise ValueError(
                f"strength={self.strength} does not fit start={self.start!r}: it belongs to an image"
            )
        if self.strength is not None:
            check_strength(self.strength)
        _check_fraction("eta", self.eta)
        if self.clip_skip is not None:
            _check_whole("clip_skip", self.clip_skip, 0, None)
        for name, kinds in (("long_prompt", LongPrompt), ("prompt_syntax", PromptSyntax), ("blend", Blend)):
            value, known = getattr(self, name), get_args(kinds)
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(map(repr, known))}")
        if not isinstance(self.exact, bool):
            raise ValueError(f"exact={self.exact!r} is not allowed: use True or False")
        _check_whole("step_cache_interval", self.step_cache_interval, 1, LARGEST_STEPS)
        if self.padding_mask_crop is not None:
            _check_whole("padding_mask_crop", self.padding_mask_crop, 0, None)
        masked = self.start == "masked picture"
        for name, plain in (("blend", "exact"), ("padding_mask_crop", None)):
            if not masked and getattr(self, name) != plain:
                raise ValueError(f"{name}={getattr(self, name)!r} has no effect: it belongs to a mask_image")
        for step in _tuple("timesteps", self.timesteps or ()):
            _check_whole("timesteps", step, 0, None)
        for sigma in _tuple("sigmas", self.sigmas or ()):
            _check_number("sigmas", sigma, 0.0, None)

    def to_json(self) -> str:
        """Write canonical JSON: one line, keys sorted, every field; equal requests give equal text."""
        plain = dataclasses.asdict(self)
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a JSON object; an unknown field is a ValueError that names the nearest known one."""
        return _from_json(cls, text)

    def to_arguments(self) -> dict[str, Any]:
        """Give the keyword arguments of `LatentDiffusionPipeline.__call__` that repeat this request.

        The scheduler is not among them (it is a component, not an argument), nor are picture and mask.
        A run that starts from a picture takes its size from that picture.
        """
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        renamed = {
            "prompt": list(self.prompts),
            "negative_prompt": list(self.negative_prompts),
            "seed": list(self.seeds),
        }
        left_out = {"prompts", "negative_prompts", "seeds", "start", "scheduler"}
        if self.start != "noise" and self.padding_mask_crop is None:
            left_out |= {"height", "width"}
        given = {**renamed, **{name: value for name, value in plain.items() if name not in left_out}}
        given = {
            name: list(value) if name in ("timesteps", "sigmas") and value else value
            for name, value in given.items()
        }
        return {name: value for name, value in given.items() if value is not None and value != []}


def request_from_arguments(
    defaults: GenerationDefaults,
    *,
    prompt: PromptInput | None,
    negative_prompt: PromptInput | None,
    embedded_rows: int | None,
    seed: int | Sequence[int] | None,
    draws_own_noise: bool,
    start: Start,
    strength: float | None,
    guidance_interval: Sequence[float] | None,
    timesteps: Sequence[int] | None,
    sigmas: Sequence[float] | None,
    **settings: Any,
) -> GenerationRequest:
    """Fill a call's arguments with `defaults` and check them: one-line ValueErrors.

    `embedded_rows` is the number of rows of `prompt_embeds`, None without them. `draws_own_noise` is False
    when the call brought its own generator, which excludes a seed. `settings` are fields of the same name.
    """
    prompts = texts("prompt", prompt)
    if (prompts is None) == (embedded_rows is None):
        raise ValueError("prompt and prompt_embeds: give one of the two, and only one")
    rows = embedded_rows if prompts is None else len(prompts)
    negatives = texts("negative_prompt", negative_prompt) or ()
    if isinstance(negative_prompt, str):
        negatives = negatives * (rows or 0)
    if negatives and len(negatives) != rows:
        raise ValueError(
            f"negative_prompt has {len(negatives)} texts for {rows} prompts:"
            " give one text for all, or one per prompt"
        )
    if seed is not None and not draws_own_noise:
        raise ValueError("seed and generator were both given: give one of them")
    if strength is None and start != "noise":
        strength = 0.8 if start == "picture" else 1.0
    _check_whole("num_images_per_prompt", settings.get("num_images_per_prompt", 1), 1, None)
    pictures = (rows or 0) * settings.get("num_images_per_prompt", 1)
    known = {field.name for field in dataclasses.fields(GenerationDefaults)}
    filled: dict[str, Any] = {
        name: getattr(defaults, name) if value is None and name in known else value
        for name, value in settings.items()
    }
    return GenerationRequest(
        prompts=prompts or (),
        negative_prompts=negatives,
        seeds=seeds_for(seed, pictures) if draws_own_noise else (),
        start=start,
        strength=strength,
        guidance_interval=defaults.guidance_interval
        if guidance_interval is None
        else tuple(guidance_interval),  # pyright: ignore
        timesteps=None if timesteps is None else tuple(timesteps),
        sigmas=None if sigmas is None else tuple(sigmas),
        **filled,
    )


def seeds_for(seed: int | Sequence[int] | None, pictures: int) -> tuple[int, ...]:
    """Give every picture of a request its seed.

    A number counts on (picture i has `seed + i`), a sequence holds one seed per picture, None draws a
    first seed from the operating system's entropy. ValueError when a seed would leave 0 to 2^32-1, where
    CPU generators start to repeat, or when a sequence has another length than `pictures`.
    """
    if seed is None:
        seed = secrets.randbelow(LARGEST_SEED - pictures + 2)
    if isinstance(seed, Sequence):
        if len(seed) != pictures:
            raise ValueError(
                f"seed has {len(seed)} numbers for {pictures} pictures: give one number or {pictures}"
            )
        return tuple(seed)
    check_seed(seed)
    if seed + pictures - 1 > LARGEST_SEED:
        raise ValueError(
            f"seed={seed} leaves no seeds for {pictures} pictures: use at most {LARGEST_SEED - pictures + 1}"
        )
    return tuple(seed + i for i in range(pictures))


def check_seed(seed: object) -> None:
    """Raise ValueError unless `seed` is a whole number from 0 to 2^32-1.

    Larger seeds are refused because a CPU generator gives the same noise for s and s + 2^32.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed={seed!r} is not allowed: use a whole number from 0 to {LARGEST_SEED}")


def check_strength(strength: object) -> None:
    """Raise ValueError unless `strength` lies in (0, 1]."""
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0.0 < strength <= 1.0:
        raise ValueError(f"strength={strength!r} is not allowed: use more than 0 and at most 1")


def _check_sampling(settings: "GenerationDefaults | GenerationRequest") -> None:
    """Check the fields that defaults and requests share."""
    _check_whole("num_inference_steps", settings.num_inference_steps, 1, LARGEST_STEPS)
    _check_number("guidance_scale", settings.guidance_scale, 0.0, None)
    _check_fraction("guidance_rescale", settings.guidance_rescale)
    _check_fraction("negative_start", settings.negative_start)
    interval = _tuple("guidance_interval", settings.guidance_interval)
    if len(interval) != 2:
        raise ValueError(f"guidance_interval={interval!r} is not allowed: use two fractions (start, stop)")
    for end in interval:
        _check_fraction("guidance_interval", end)
    if interval[0] > interval[1]:
        raise ValueError(f"guidance_interval={interval!r} is not allowed: start must not lie after stop")
    for name in ("height", "width"):
        if getattr(settings, name) is not None:
            _check_whole(name, getattr(settings, name), 1, None)
    if settings.scheduler is not None and not isinstance(settings.scheduler, str):
        raise ValueError(f"scheduler={settings.scheduler!r} is not allowed: use a scheduler's class name")


def _tuple(name: str, value: object) -> tuple:
    if not isinstance(value, tuple):
        raise ValueError(f"{name}={value!r} is not allowed: use a tuple")
    return value


def _check_whole(name: str, value: object, smallest: int, largest: int | None) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < smallest
        or (largest is not None and value > largest)
    ):
        upper = "" if largest is None else f", at most {largest}"
        raise ValueError(f"{name}={value!r} is not allowed: use a whole number of at least {smallest}{upper}")


def _check_number(name: str, value: object, smallest: float, largest: float | None) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < smallest or (largest is not None and value > largest):  # pyright: ignore
        span = f"of at least {smallest:g}" if largest is None else f"from {smallest:g} to {largest:g}"
        raise ValueError(f"{name}={value!r} is not allowed: use a number {span}")


def _check_fraction(name: str, value: object) -> None:
    _check_number(name, value, 0.0, 1.0)


def _from_json(cls: type, text: str) -> Any:
    """Build a settings dataclass from a JSON object; lists become tuples."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise ValueError(f"this JSON holds a {type(plain).__name__}: an object with settings is needed")
    known = [f.name for f in dataclasses.fields(cls)]
    for name in plain:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(f"the setting {name!r} is unknown: did you mean {near[0]!r}?")
    return cls(**{name: tuples(value) for name, value in plain.items()})
