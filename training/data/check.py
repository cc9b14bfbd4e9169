"""`python -m training data check DIR`: words on a command line -> the report of the pictures there, printed.

Knows nothing of networks; it needs a tokenizer's folder only to count tokens, and changes nothing in DIR.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from training.data.picture_config import PictureSetConfig, SourceConfig

LONGEST_CAPTION = 77
"""Tokens that a CLIP text encoder reads, the two at the ends counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words that `check` understands."""
    defaults = {name: field.default for name, field in PictureSetConfig.__dataclass_fields__.items()}
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR",
        help="folder of pictures, metadata file, saved data set, .tar shard or folder of shards",
    )  # fmt: skip
    parser.add_argument(
        "--resolution", type=int, default=512, metavar="N", help="pixels of a side (default: 512)"
    )
    parser.add_argument(
        "--factor",
        type=int,
        default=defaults["factor"],
        help="sides are multiples of it (default: %(default)s)",
    )
    parser.add_argument(
        "--largest-aspect", type=float, default=defaults["largest_aspect"], help="(default: %(default)s)"
    )
    parser.add_argument("--crop", action="store_true", help="allow crops of up to half of a picture")
    parser.add_argument(
        "--held-out", type=float, default=defaults["held_out"], metavar="SHARE", help="kept for validation"
    )
    parser.add_argument("--template", help='caption made of fields, e.g. "{style} emoji of {name}"')
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only samples with this value, e.g. style=flat (repeatable)",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="tokenizer or pipeline folder: count captions' tokens",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="keep what was found there for later runs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def check(options: argparse.Namespace) -> None:
    """Print the report.

    Raises:
        ValueError: a folder that cannot be read, or an option out of its range.
        OSError: the cache cannot be written.
    """
    # Here, so that reading the command line does not import torch.
    from training.data.picture_report import report_of, shown
    from training.data.survey import survey_of

    config = PictureSetConfig(
        sources=tuple(
            SourceConfig(path=path, template=options.template, where=tuple(options.where))
            for path in options.folders
        ),
        resolution=options.resolution,
        factor=options.factor,
        largest_aspect=options.largest_aspect,
        crop=options.crop,
        held_out=options.held_out,
    )
    count = _token_counter(options.tokenizer) if options.tokenizer else None
    survey = survey_of(config, cache=options.cache)
    report = report_of(survey)
    long = _long_captions(((use.sample.name, use.captions) for use in survey.uses), count) if count else None
    if options.json:
        facts = report.as_json() | ({} if long is None else {"long_captions": long})
        print(json.dumps(facts, indent=1))
        return
    print(report.text())
    if long is not None:
        print(
            f"\n{len(long)} pictures have a caption of more than {LONGEST_CAPTION} tokens, which is cut off"
        )
        for name, tokens in list(long.items())[:10]:
            print(f"  {shown(name)}: {tokens} tokens")


def _long_captions(
    captions: Iterable[tuple[str, tuple[str, ...]]], count: Callable[[str], int]
) -> dict[str, int]:
    """Samples with a caption that is too long -> the tokens of the longest."""
    longest = {name: max(count(text) for text in texts) for name, texts in captions}
    return {name: tokens for name, tokens in longest.items() if tokens > LONGEST_CAPTION}


def _token_counter(folder: Path) -> Callable[[str], int]:
    """The number of tokens of a text, as the tokenizer in a folder or in its `tokenizer` folder counts."""
    place = next(
        (one for one in (folder, folder / "tokenizer") if (one / "tokenizer_config.json").is_file()), None
    )
    if place is None:
        raise ValueError(
            f"--tokenizer {folder}: there is no tokenizer_config.json; give a tokenizer's folder."
        )
    from transformers import CLIPTokenizer

    tokenizer: Any = CLIPTokenizer.from_pretrained(place, local_files_only=True)
    return lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids)
