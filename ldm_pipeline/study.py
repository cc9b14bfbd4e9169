"""A paired study as a value: prompts, seeds and the settings of each arm, checked, before anything is drawn.

Knows nothing of torch, of files, of what pictures show or of how answers are counted.
"""

import dataclasses
import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ldm_pipeline.request import GenerationRequest, check_seed

LARGEST_CASES = 100_000
MOST_ARMS = 64
FILES = ("lora", "image", "mask_image")
LOADED = ("model", "lora", "scheduler")
"""Settings of the pipeline; the others are arguments of its call."""
TEXTS = ("prompt", "negative_prompt", "model", "scheduler", "long_prompt", "prompt_syntax", "blend", *FILES)
"""Settings that are taken as they are written; an empty one is the same as none."""
_NOT_SETTINGS = {"prompts", "negative_prompts", "seeds", "num_images_per_prompt", "start"}
SETTINGS = (
    *("prompt", "negative_prompt", "model", "lora", "image", "mask_image"),
    *(field.name for field in dataclasses.fields(GenerationRequest) if field.name not in _NOT_SETTINGS),
)
"""What an arm may set: the fields of a request, and the files that go with it."""
SHAM = "sham"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to draw every case."""

    key: str
    """Short, unique, and the name of its folder: "A", "B", "sham", or "x1y2" in a grid."""
    label: str
    """What sets it apart, for people: `negative_prompt="umbrella"`."""
    settings: Mapping[str, Any]
    """Setting -> value, named as in `SETTINGS`; what is left out is the model's own."""

    def prompt(self, text: str) -> str:
        """Give this arm's wording of a prompt: its own, in which {} stands for the study's."""
        return self.settings.get("prompt", "{}").replace("{}", text)

    def arguments(self) -> dict[str, Any]:
        """Give the keyword arguments of the pipeline's call, but for prompt, seed and pictures."""
        left_out = {"prompt", "image", "mask_image", *LOADED}
        return {name: value for name, value in self.settings.items() if name not in left_out}


@dataclass(frozen=True)
class Case:
    """One seed with one prompt: drawn once in every arm."""

    prompt: int
    """Position in the study's prompts."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """The same cases drawn in every arm; each arm is compared with the first."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    ask: str
    """The question that the judge is asked about every picture."""
    also: tuple[str, ...] = ()
    """Further questions, reported as collateral."""
    axes: tuple[tuple[str, int], ...] = ()
    """Setting and number of values along x, and along y, of a sweep; empty for a pair."""

    def __post_init__(self) -> None:
        """Check all of it; one-line ValueErrors."""
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise ValueError("prompt is empty: say what to draw")
        if len(set(self.prompts)) != len(self.prompts):
            raise ValueError("prompts holds a text twice: each prompt is one cluster, give it once")
        if not self.seeds:
            raise ValueError("seeds is empty: give at least one, e.g. 0-63")
        for seed in self.seeds:
            check_seed(seed)
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds holds a number twice: a repeated picture is no further evidence")
        if len(self.prompts) * len(self.seeds) > LARGEST_CASES:
            raise ValueError(
                f"{len(self.prompts)} prompts x {len(self.seeds)} seeds: at most {LARGEST_CASES} cases"
            )
        if not self.ask.strip():
            raise ValueError("ask is empty: name what to look for in the pictures, e.g. umbrella")
        if len({self.ask, *self.also}) != 1 + len(self.also):
            raise ValueError("also repeats a question: ask each once")
        if not 2 <= len(self.arms) <= MOST_ARMS:
            raise ValueError(f"a study of {len(self.arms)} arms: give 2 to {MOST_ARMS}")
        for arm in self.arms:
            check_settings(arm.settings)
        for one, other in itertools.combinations(self.arms, 2):
            if one.settings == other.settings:
                raise ValueError(f"arms {one.key} and {other.key} have equal settings: change one of them")

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every seed with every prompt, prompt-major."""
        return tuple(Case(i, seed) for i in range(len(self.prompts)) for seed in self.seeds)

    def arm(self, key: str) -> Arm:
        """Give the arm with that key."""
        return next(arm for arm in self.arms if arm.key == key)


def pair(
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    change: Mapping[str, Any],
    base: Mapping[str, Any] | None = None,
    sham: str | None = None,
    ask: str,
    also: Sequence[str] = (),
) -> Study:
    """Arm A: `base`; arm B: `base` with `change`; with `sham` a third arm with that negative prompt.

    ValueError for a change of nothing, an unknown setting, and a sham word where no negative prompt is added.
    """
    base, names = _given(base or {}), list(change)
    if not names:
        raise ValueError("nothing differs between the arms: give --negative-prompt, --change or --vary")
    settings = [base, _given({**base, **change})]
    keys = ["A", "B"]
    if sham is not None:
        if names != ["negative_prompt"] or not change["negative_prompt"]:
            raise ValueError(f"sham={sham!r} has no place here: it is the control of a negative prompt alone")
        if sham == change["negative_prompt"]:
            raise ValueError(f"sham={sham!r} is the negative prompt itself: name what is not in the scene")
        settings.append(_given({**base, "negative_prompt": sham}))
        keys.append(SHAM)
    arms = tuple(
        Arm(key=key, label=_label(names, own), settings=own) for key, own in zip(keys, settings, strict=True)
    )
    return Study(
        prompts=tuple(prompts), seeds=tuple(seeds), arms=arms, ask=ask.strip(), also=tuple(also), axes=()
    )


def sweep(
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    vary: Mapping[str, Sequence[Any]],
    base: Mapping[str, Any] | None = None,
    ask: str,
    also: Sequence[str] = (),
) -> Study:
    """One arm for each value of a setting, or for each pair of values of two; the first is the reference.

    ValueError for another number of settings than one or two, and for fewer than two values of one.
    """
    if not 1 <= len(vary) <= 2:
        raise ValueError(f"vary names {len(vary)} settings: give one, or two for a grid")
    for name, values in vary.items():
        if len(values) < 2:
            raise ValueError(f"vary {name} has {len(values)} values: give at least two, e.g. {name}=1,3,5")
    names, arms = list(vary), []
    for places in itertools.product(*(range(len(vary[name])) for name in reversed(names))):
        at = dict(zip(names, reversed(places), strict=True))  # x runs fastest: row after row of a grid
        key = "".join(f"{axis}{place + 1}" for axis, place in zip("xy", at.values(), strict=False))
        own = _given({**(base or {}), **{name: vary[name][place] for name, place in at.items()}})
        arms.append(Arm(key=key, label=_label(names, own), settings=own))
    axes = tuple((name, len(values)) for name, values in vary.items())
    return Study(
        prompts=tuple(prompts), seeds=tuple(seeds), arms=tuple(arms), ask=ask.strip(), also=tuple(also),
        axes=axes,
    )  # fmt: skip


def read_seeds(text: str) -> tuple[int, ...]:
    """Read "0-63", "7" or "0-3,10,20-29" as seeds; ValueError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if match is None:
            raise ValueError(f"seeds={text!r} cannot be read: write e.g. 0-63 or 0-31,40")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= LARGEST_CASES:
            raise ValueError(f"seeds={text!r} holds no range of 1 to {LARGEST_CASES} seeds: write e.g. 0-63")
        check_seed(last)
        seeds += range(first, last + 1)
    return tuple(seeds)


def read_setting(text: str) -> tuple[str, Any]:
    """Read "guidance_scale=3" as a setting and its value; JSON for what is no text, null for the model's own.

    ValueError for what has no "=" and for an unknown setting, naming the nearest.
    """
    name, written = _split(text)
    return name, _value(name, written)


def read_values(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read "guidance_scale=1,3,5", or "prompt=[...]" with a JSON list, as a setting and its values."""
    name, written = _split(text)
    if written.lstrip().startswith("["):
        try:
            values = json.loads(written)
        except ValueError as error:
            raise ValueError(f"{text!r} is no JSON list: {error}") from None
        return name, tuple(_value(name, entry) if isinstance(entry, str) else entry for entry in values)
    return name, tuple(_value(name, part.strip()) for part in written.split(","))


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check an arm's settings by the rules of a request; one-line ValueErrors that name the setting."""
    for name, value in settings.items():
        check_name(name)
        if name in TEXTS and not isinstance(value, str):
            raise ValueError(f"{name}={value!r} is not allowed: use a text")
    for name in ("mask_image", "strength"):
        if name in settings and "image" not in settings:
            raise ValueError(f"{name}={settings[name]!r} needs an image: set image to a picture's file too")
    start = "masked picture" if "mask_image" in settings else "picture" if "image" in settings else "noise"
    strength = None if start == "noise" else settings.get("strength", 1.0)
    own = {"prompt", "negative_prompt", "model", "strength", *FILES}
    fields = {name: _as_tuple(value) for name, value in settings.items() if name not in own}
    negatives = (settings["negative_prompt"],) if "negative_prompt" in settings else ()
    GenerationRequest(
        prompts=(settings.get("prompt", "x"),),
        negative_prompts=negatives,
        start=start,
        strength=strength,
        **fields,
    )


def check_name(name: str) -> None:
    """Raise ValueError, naming the nearest, for a setting that no arm can have."""
    if name not in SETTINGS:
        (near,) = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.0)
        raise ValueError(f"the setting {name!r} is unknown: did you mean {near!r}?")


def described(value: Any) -> str:
    """Write a setting's value for people, as in a report: texts in quotes, nothing as the model's own."""
    return "the model's own" if value is None else json.dumps(value, ensure_ascii=False)


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None, an empty text too, so that equal settings are equal values."""
    for name in settings:
        check_name(name)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
        if value is not None and not (name in TEXTS and value == "")
    }


def _label(names: Sequence[str], settings: Mapping[str, Any]) -> str:
    return ", ".join(_told(names, settings))


def _told(names: Sequence[str], settings: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        if name == "negative_prompt" and name not in settings:
            yield "no negative prompt"
        else:
            value = settings.get(name)
            if value is not None and name in (*FILES, "model"):
                value = PurePath(value).name  # its folder is nobody else's matter
            yield f"{name}={described(value)}"


def _split(text: str) -> tuple[str, str]:
    name, mark, written = text.partition("=")
    name = name.strip()
    if not mark:
        raise ValueError(f"{text!r} is no setting: write NAME=VALUE, e.g. guidance_scale=3")
    check_name(name)
    return name, written


def _value(name: str, written: str) -> Any:
    if name in TEXTS:
        return written or None
    try:
        return json.loads(written)
    except ValueError:
        return written  # which the request's own check refuses, naming what it takes


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
