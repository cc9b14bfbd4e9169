"""Pictures and a question -> yes or no for each: what a judge is, and the bundled recogniser as one.

Knows nothing of studies or arms. A judge that also reads whole scenes tells what else changed.
"""

import difflib
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from ldm_pipeline.folder import bundled_folder
from ldm_pipeline.images import as_pictures
from ldm_pipeline.judge import WEIGHTS, Recogniser

PICTURES_AT_ONCE = 32
PRESENT, YES = "present", "yes"
CITIES_WITH_WATER = ("venice", "sydney", "san francisco", "new york", "london", "rio")
"""Where the postcard world has boats (a test compares them with the world's own)."""


@runtime_checkable
class Judge(Protocol):
    """Whatever answers a question about pictures."""

    def facts(self) -> dict[str, Any]:
        """Tell what it is, for the record: its kind under "judge", its weights' hash, its settings."""
        ...

    def check(self, question: str) -> None:
        """Raise a one-line ValueError for a question that it cannot answer."""
        ...

    def asks(self, pictures: Sequence[Image.Image], question: str) -> list[bool]:
        """Answer the question about each picture."""
        ...


@runtime_checkable
class SceneJudge(Judge, Protocol):
    """A judge that reads a record from each picture, and knows which of its fields a prompt names."""

    def reads(self, pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
        """Read field -> class in each picture."""
        ...

    def named(self, prompt: str) -> dict[str, str]:
        """Read field -> class out of a prompt's words; what they leave open is left out."""
        ...

    def others(self, question: str) -> list[str]:
        """Give the fields that the question is not about."""
        ...

    def sham_word(self, texts: Sequence[str]) -> str | None:
        """Give a word for what none of these texts names and hardly any of their pictures shows."""
        ...


@dataclass(frozen=True, kw_only=True)
class RecogniserJudge:
    """The recogniser's answers; it knows its own world only, and that one well.

    Questions: a thing ("umbrella", "dog.beret"), a class of a scene's field ("rainy"), or field=class
    ("weather=rainy", "dog.color=red", which asks for a dog too).
    """

    network: Recogniser
    weights: str
    """SHA-256 of its file."""

    @classmethod
    def load(cls, folder: Path | None = None) -> "RecogniserJudge":
        """Open a saved recogniser, the bundled one for None; FileNotFoundError where there is none."""
        folder = bundled_folder("judge") if folder is None else folder
        network = Recogniser.load(folder)
        return cls(network=network, weights=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())

    @cached_property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Field -> classes."""
        return dict(self.network.config.fields)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Things that it looks for."""
        ends = f".{PRESENT}"
        return tuple(f.removesuffix(ends) for f in self.fields if f.endswith(ends) and f.count(".") == 1)

    def facts(self) -> dict[str, Any]:
        """Tell its kind and its weights' hash."""
        return {"judge": "recogniser", "weights": self.weights}

    def check(self, question: str) -> None:
        """Refuse an unknown question, naming the nearest."""
        self.asked_fields(question)

    def asks(self, pictures: Sequence[Image.Image], question: str) -> list[bool]:
        """Answer yes where every asked field has the asked class."""
        wanted = self.asked_fields(question)
        return [all(read[f] == value for f, value in wanted.items()) for read in self.reads(pictures)]

    def reads(self, pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
        """Read every field; pictures may have any sizes."""
        device = next(self.network.parameters()).device
        records: list[dict[str, str]] = []
        for _, run in itertools.groupby(pictures, key=lambda picture: picture.size):
            alike = list(run)
            for first in range(0, len(alike), PICTURES_AT_ONCE):
                tensors = as_pictures(alike[first : first + PICTURES_AT_ONCE]) * 2 - 1
                reading = self.network.read(tensors.to(device))
                records += [
                    {name: names[c] for (name, names), c in zip(reading.fields, row, strict=True)}
                    for row in reading.classes.tolist()
                ]
        return records

    def asked_fields(self, question: str) -> dict[str, str]:
        """Give the field -> class that a question asks for; ValueError, naming the nearest, if it is unknown.

        Whoever asks for a thing's color asks for the thing too.
        """
        name, mark, value = (" ".join(part.split()).lower() for part in question.partition("="))
        field = name if name in self.fields else f"{name}.{PRESENT}"
        if not mark and field.endswith(f".{PRESENT}") and field in self.fields:
            value = YES
        elif not mark:
            field, value = self._class_of_scene(name), name
        if field not in self.fields or value not in self.fields[field]:
            near = difflib.get_close_matches(
                f"{name}{mark}{value}" if mark else name, self.questions, n=3, cutoff=0.0
            )
            raise ValueError(
                f"ask={question!r} is nothing that the judge reads: nearest are {', '.join(map(repr, near))}"
            )
        parts = field.split(".")[:-1]
        holders = [".".join([*parts[: i + 1], PRESENT]) for i in range(len(parts))]
        return {**{holder: YES for holder in holders if holder in self.fields}, field: value}

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """Every question in the form that it is best asked in."""
        told: list[str] = []
        for field, classes in self.fields.items():
            thing, _, last = field.rpartition(".")
            told += [thing] if last == PRESENT else [f"{field}={value}" for value in classes]
        return tuple(told)

    def named(self, prompt: str) -> dict[str, str]:
        """Read scene fields, things and the colors before them; "no" and "without" name nothing."""
        text = " ".join(re.findall(r"[^\W_]+", prompt.lower()))
        found: dict[str, str] = {}
        for field, classes in self.fields.items():
            if "." not in field:
                told = [value for value in classes if re.search(rf"\b{re.escape(value)}\b", text)]
                found |= {field: told[0]} if len(told) == 1 else {}
        for kind in self.kinds:
            match = re.search(rf"((?:\w+ ){{0,3}})\b{re.escape(kind)}(?:s|es)?\b", text)
            before = match[1].split() if match else ["no"]
            if {"no", "without"} & {*before}:
                continue
            found[f"{kind}.{PRESENT}"] = YES
            if before and before[-1] in self.fields.get(f"{kind}.color", ()):
                found[f"{kind}.color"] = before[-1]
        return found

    def others(self, question: str) -> list[str]:
        """Give the fields of the scene, and presence and color of each thing, but for what is asked about."""
        asked = {field.split(".")[0] for field in self.asked_fields(question)}
        shown = [f for f in self.fields if "." not in f]
        shown += [f for f in self.fields if f.split(".")[1:] in ([PRESENT], ["color"])]
        return [field for field in shown if field.split(".")[0] not in asked]

    def sham_word(self, texts: Sequence[str]) -> str | None:
        """Give a boat where no text names a city with water, else the last kind that no text names."""
        words = [self.named(text) for text in texts]
        named = {field.split(".")[0] for one in words for field in one}
        wet = any(one.get("city") in CITIES_WITH_WATER for one in words)
        free = [kind for kind in self.kinds if kind not in named and not (kind == "boat" and wet)]
        if "boat" in free:
            return "boat"
        return free[-1] if free else None

    def _class_of_scene(self, value: str) -> str:
        """Give the one field of the scene that has this class, or "" for none or several."""
        having = [field for field, classes in self.fields.items() if "." not in field and value in classes]
        return having[0] if len(having) == 1 else ""
