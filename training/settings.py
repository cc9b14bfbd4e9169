"""Texts such as `unet.fit.batch_size=32` set fields of nested frozen dataclasses, read by the fields' types.

Knows nothing of what the fields mean.
"""

import difflib
import math
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MANY = {int: "whole numbers", float: "numbers", bool: "true or false", str: "words"}
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


def adjusted(value: T, assignments: Sequence[str]) -> T:
    """`value` with each `FIELD=VALUE` set in turn; fields are dotted, a tuple's entries stand between commas.

    Raises:
        ValueError: no such field (the nearest one is named), or a value of another type.
    """
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign:
            raise ValueError(f"--set {assignment}: has no '='; write FIELD=VALUE.")
        known = [name for name, _ in _leaves(value)]
        if path not in known:
            nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.0)
            raise ValueError(
                f"--set {assignment}: there is no field {path!r}; the nearest is {nearest[0]!r}."
            )
        value = _with(value, path.split("."), text, assignment)
    return value


def differences(base: object, value: object) -> list[str]:
    """The assignments that make `base` into `value`, another of its class."""
    before = dict(_leaves(base))
    return [f"{name}={_text(entry)}" for name, entry in _leaves(value) if before[name] != entry]


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(value):
        entry = getattr(value, field.name)
        if is_dataclass(entry):
            yield from _leaves(entry, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", entry


def _with(value: Any, names: list[str], text: str, assignment: str) -> Any:
    if names[1:]:
        return replace(value, **{names[0]: _with(getattr(value, names[0]), names[1:], text, assignment)})
    kind = get_type_hints(type(value))[names[0]]
    try:
        read = _read(text.strip(), kind)
    except ValueError:
        raise ValueError(f"--set {assignment}: must be {_described(kind)}.") from None
    return replace(value, **{names[0]: read})


def _read(text: str, kind: Any) -> Any:
    """Raises ValueError if `text` is no value of the type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if text.lower() == "none" and types.NoneType in arguments:
            return None
        return _read(text, next(a for a in arguments if a is not types.NoneType))
    if origin is Literal:
        return {str(choice): choice for choice in arguments}[_one_of(text, map(str, arguments))]
    if origin is tuple:
        texts = [part.strip() for part in text.split(",")] if text else []
        kinds = [arguments[0]] * len(texts) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(part, one) for part, one in zip(texts, kinds, strict=True))
    if kind is bool:
        return _TRUTHS[_one_of(text.lower(), _TRUTHS)]
    if kind is float and not math.isfinite(float(text)):
        raise ValueError
    return kind(text)


def _one_of(text: str, choices: Any) -> str:
    if text not in list(choices):
        raise ValueError
    return text


def _described(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is types.NoneType else _described(a) for a in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"{count}{_MANY.get(arguments[0], 'values')} separated by commas"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
