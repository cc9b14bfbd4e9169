"""The parts of a recipe beyond its request, each a small checked value: LoRAs, regions, inputs, generator.

Knows nothing of torch or of files. What is read is not trusted: every text, number and count is bounded.
"""

import base64
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_NAME = 200
LONGEST_TEXT = 100_000
MOST_ENTRIES = 2_000
DEEPEST = 5
LARGEST_STATE_BYTES = 20_000
"""Of a generator; a CPU's has 5,056 bytes, a GPU's 16."""


class RecipeError(ValueError):
    """A file holds no recipe, or one that breaks the schema, or a recipe cannot be written; in one line."""


@dataclass(frozen=True, kw_only=True)
class LoraRecord:
    """A LoRA that acted on the networks."""

    name: str
    """Its file's name, never its path, or the adapter's."""
    hash: str = ""
    """SHA-256 of its file, or of its tensors where it came from no file, hexadecimal; "" if unknown."""
    weight: float = 1.0
    """1 as trained."""
    uneven: bool = False
    """Whether it acted with other weights in other layers, of which `weight` is the largest."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_name("loras", self.name)
        check_hash("loras", self.hash)
        check_number("loras", self.weight, -1e6, 1e6)
        check(isinstance(self.uneven, bool), "loras", self.uneven)


@dataclass(frozen=True, kw_only=True)
class RegionRecord:
    """A phrase that acted in a part of the picture."""

    text: str
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom as fractions; None for a mask."""
    mask_hash: str = ""
    """SHA-256 of the mask, hexadecimal; "" for a box."""
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check every field."""
        check_text("regions", self.text)
        check_hash("regions", self.mask_hash)
        check_number("regions", self.weight, 0.0, 1.0)
        check((self.box is None) != (not self.mask_hash), "regions", "a region without an area")
        if self.box is not None:
            check(isinstance(self.box, tuple) and len(self.box) == 4, "regions", self.box)
            for side in self.box:
                check_number("regions", side, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class InputRecord:
    """A thing that a picture was made with and that the file does not hold."""

    name: str
    """The argument's name, e.g. "image", or a plain word for it."""
    hash: str = ""
    """SHA-256, hexadecimal: of the pixels, for pictures; "" where it is unknown."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_name("inputs", self.name)
        check_hash("inputs", self.hash)


@dataclass(frozen=True, kw_only=True)
class GeneratorRecord:
    """The state of a caller's generator before the call drew from it."""

    device: str
    """Kind of device that it draws on, e.g. "cpu"."""
    state: str
    """What `torch.Generator.get_state` gave, compressed by zlib, in base64."""
    shared: bool = False
    """Whether it drew for all pictures of the request, which then have to be drawn together."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_name("generator", self.device)
        check(isinstance(self.state, str) and len(self.state) <= LARGEST_STATE_BYTES, "generator", self.state)
        check(isinstance(self.shared, bool), "generator", self.shared)
        _ = self.state_bytes

    @classmethod
    def of_state(cls, state: bytes, *, device: str, shared: bool) -> "GeneratorRecord":
        """Record a state's bytes."""
        packed = base64.b64encode(zlib.compress(state, 9)).decode()
        return cls(device=device, state=packed, shared=shared)

    @property
    def state_bytes(self) -> bytes:
        """The state, for `torch.Generator.set_state`; RecipeError where it is damaged or too large."""
        try:
            return unpacked(self.state, largest=LARGEST_STATE_BYTES)
        except ValueError as error:
            raise RecipeError(f"the recipe's generator has no state that can be read: {error}") from None


def unpacked(text: str, *, largest: int) -> bytes:
    """Decode base64 and zlib; ValueError for what is neither, or holds more than `largest` bytes."""
    try:
        packed = base64.b64decode(text, validate=True)
        reader = zlib.decompressobj()
        content = reader.decompress(packed, largest)
        whole = reader.eof and not reader.unconsumed_tail
    except (ValueError, zlib.error) as error:
        raise ValueError(short(error)) from None
    if not whole:
        raise ValueError(f"it is cut off, or has more than {largest} bytes")
    return content


def read_json(text: str, *, largest: int, finite: bool = True) -> Any:
    """Read a stranger's JSON; RecipeError for what is none, too long or too deep.

    NaN and infinities are refused too; with `finite=False`, for tools that write them, they become None.
    """
    if len(text) > largest:
        raise RecipeError(f"the recipe has {len(text)} characters; at most {largest} are read")
    try:
        if not finite:
            return json.loads(text, parse_constant=lambda _: None)
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe is not JSON: {short(error)}") from None


def write_json(plain: Any) -> str:
    """Write canonical JSON: one line, keys sorted."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_value(value: Any) -> Any:
    """A configuration value as JSON: tuples and arrays as lists, infinities and foreign things as text."""
    if isinstance(value, Mapping):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    if isinstance(value, str):
        return plain_name(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    as_list = getattr(value, "tolist", None)
    return json_value(as_list()) if as_list is not None else plain_name(str(value))


def plain_name(text: str) -> str:
    """The last part of a path, or the text itself, without what could be read as a path or an address."""
    return re.sub(r"[\x00-\x1f\x7f:]", "_", re.split(r"[/\\]", text.rstrip("/\\"))[-1])[:LONGEST_NAME]


def check(holds: bool, name: str, value: object) -> None:
    """RecipeError in one line unless a field's rule holds."""
    if not holds:
        raise RecipeError(f"the recipe's {name} is {short(value)}, which its schema does not allow")


def check_name(name: str, value: object) -> None:
    """Check a short text that is neither a path nor an address."""
    check(isinstance(value, str) and len(value) <= LONGEST_NAME and value == plain_name(value), name, value)


def check_text(name: str, value: object) -> None:
    """Check a text of bounded length that UTF-8 can hold."""
    check(isinstance(value, str) and len(value) <= LONGEST_TEXT, name, value)
    check(not re.search(r"[\ud800-\udfff]", str(value)), name, "no text")


def check_hash(name: str, value: object) -> None:
    """Check a SHA-256 in hexadecimal, or ""."""
    check(isinstance(value, str) and re.fullmatch(r"([0-9a-f]{64})?", value) is not None, name, value)


def check_number(name: str, value: object, smallest: float, largest: float) -> None:
    """Check a finite number of a range."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    check(number and smallest <= value <= largest, name, value)  # pyright: ignore[reportOperatorIssue]


def check_whole(name: str, value: object, largest: int) -> None:
    """Check a whole number from 0 on."""
    check(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest, name, value)


def check_entries(name: str, value: object, kind: type) -> None:
    """Check a tuple of bounded length."""
    check(isinstance(value, tuple) and len(value) <= MOST_ENTRIES, name, value)
    for entry in value if isinstance(value, tuple) else ():
        check(isinstance(entry, kind), name, entry)


def check_config(name: str, value: object, *, depth: int = DEEPEST) -> None:
    """Check JSON values of bounded depth and counts whose texts are plain names."""
    if isinstance(value, Mapping | list):
        check(depth > 0 and len(value) <= MOST_ENTRIES, name, "nested too deep, or has too many entries")
        if isinstance(value, Mapping):
            for key in value:
                check_name(name, key)
        for entry in value.values() if isinstance(value, Mapping) else value:
            check_config(name, entry, depth=depth - 1)
    elif isinstance(value, str):
        check_name(name, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_number(name, value, -1e12, 1e12)
    else:
        check(value is None or isinstance(value, bool), name, value)


def short(value: object) -> str:
    """Show a value in one short line."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else repr(value)
    return " ".join(text[:1_000].split())[:120]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{short(text)} is too large a number")
    return number
