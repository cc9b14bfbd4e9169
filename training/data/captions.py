"""A sample's texts and fields -> whether it is wanted, and its caption: templates, shuffled tags.

Knows nothing of tokens, and nothing of caption dropout, which belongs to the training step.
"""

import random
import string
from collections.abc import Collection, Mapping, Sequence

CAPTION_FIELDS = ("text", "caption", "prompt")
"""Fields that hold a whole caption, the first of them that a sample has."""


def template_fields(template: str) -> tuple[str, ...]:
    """The fields that a template such as "{style} emoji of {name}" asks for, each once.

    Raises:
        ValueError: it cannot be read, or asks for more than plain fields.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"template={template!r}: {error}; write fields as {{name}}, a brace itself twice."
        ) from None
    for _, name, form, conversion in parts:
        if name is not None and (form or conversion or not name or name.isdigit() or set(name) & set(".[]")):
            raise ValueError(
                f"template={template!r}: {{{name}}} is no plain field; write a field's name alone in braces."
            )
    return tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def check_template(template: str, known: Collection[str]) -> None:
    """ValueError if a template asks for a field that no sample has; it names those that exist."""
    for name in template_fields(template):
        if name not in known:
            there = ", ".join(sorted(known)) if known else "none; the samples have no fields"
            raise ValueError(f"template={template!r}: there is no field {name!r}; there are: {there}.")


def where_words(condition: str) -> tuple[str, str]:
    """A condition "field=value" as field and value; ValueError if it is none."""
    name, sign, value = (part.strip() for part in condition.partition("="))
    if not (name and sign and value):
        raise ValueError(f"where={condition!r}: is no condition; write FIELD=VALUE, e.g. style=flat.")
    return name, value


def wanted(fields: Mapping[str, str], where: Sequence[str]) -> bool:
    """Whether a sample's fields have the values asked for: of each field any of those that are named.

    A value is the whole field or one of its comma-separated entries.
    """
    asked: dict[str, set[str]] = {}
    for name, value in map(where_words, where):
        asked.setdefault(name, set()).add(value)
    return all(
        name in fields and bool(values & {fields[name], *(part.strip() for part in fields[name].split(","))})
        for name, values in asked.items()
    )


def all_captions(
    texts: Sequence[str], fields: Mapping[str, str], *, template: str | None = None
) -> tuple[str, ...]:
    """Every caption of a sample, one at least: "" where it has none.

    Without a template they are its texts. With one, the template filled with its fields; where it asks for a
    caption field such as {text}, once for each text.
    """
    if template is None:
        return tuple(texts) or ("",)
    asked = set(template_fields(template)) & set(CAPTION_FIELDS)
    values = [{**fields, **dict.fromkeys(asked, text)} for text in texts] if asked and texts else [fields]
    return tuple(dict.fromkeys(template.format_map(one) for one in values))


def drawn_caption(
    captions: Sequence[str], *, draws: random.Random, shuffle: bool = False, keep_first: int = 0
) -> str:
    """One of the captions, each as likely as the others.

    With `shuffle` its comma-separated tags come in any order. The first `keep_first` tags keep their places.
    """
    caption = captions[draws.randrange(len(captions))] if len(captions) > 1 else captions[0]
    if not shuffle:
        return caption
    tags = [tag.strip() for tag in caption.split(",")]
    kept, rest = tags[:keep_first], tags[keep_first:]
    draws.shuffle(rest)
    return ", ".join([*kept, *rest])
