"""The command `ldm`: words on a command line -> picture files, or one line that says what is wrong.

It knows no tensors; torch and diffusers are imported only once there is a checked request to draw.
"""

import argparse
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ldm_pipeline.cli_compare import register_compare
from ldm_pipeline.cli_generate import add_generate, quiet_libraries
from ldm_pipeline.cli_reproduce import add_reproduce
from ldm_pipeline.terminal import EXIT_BAD_INPUT, OneLineParser, one_line, printable

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `ldm` with these arguments (None: the process's own) and returns the exit status.

    0: done. 2: bad input, or a file that could not be read or written; one line on stderr. 130: interrupted.
    """
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries' notes to programmers
        warnings.filterwarnings("once", category=UserWarning)
        warnings.showwarning = _show_warning
        try:
            return options.run(options)
        except KeyboardInterrupt:
            print("ldm: interrupted; pictures that were listed above are saved", file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # RuntimeError: accelerator memory
            print(f"ldm: error: {one_line(error) or type(error).__name__}", file=sys.stderr)
            return EXIT_BAD_INPUT


def parser() -> argparse.ArgumentParser:
    """The command line of `ldm`; each subcommand names the function that runs it."""
    top = OneLineParser(prog="ldm", description="Draw pictures with a latent diffusion model, offline.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    add_generate(commands)
    add_reproduce(commands)
    register_compare(commands, quiet=quiet_libraries)

    show = commands.add_parser(
        "inspect", help="print what made a picture", description="Print a picture file's recipe."
    )
    show.set_defaults(run=inspect)
    show.add_argument("file", type=Path, help="a PNG, JPEG or WebP picture, of this project or another tool")

    change = commands.add_parser(
        "convert",
        help="make safetensors of a pickle",
        description="Write a .ckpt, .bin or .pt file's tensors as .safetensors; nothing in it is run.",
    )
    change.set_defaults(run=convert)
    change.add_argument("source", type=Path, metavar="IN", help="a .ckpt, .bin, .pt or .pth file")
    change.add_argument("target", type=Path, metavar="OUT", help="the .safetensors file to write")
    return top


def inspect(options: argparse.Namespace) -> int:
    """Prints a picture's recipe, or what another tool wrote, as JSON; whose it is not goes to stderr."""
    from ldm_pipeline.foreign import read_made_by
    from ldm_pipeline.recipe import PictureRecipe

    if not options.file.is_file():
        raise ValueError(f"{str(options.file)!r} is not a file: check the path")
    found = read_made_by(options.file)
    if isinstance(found, PictureRecipe):
        told = json.loads(found.to_json())
    else:
        told = dataclasses.asdict(found)
        unread = ", ".join(found.not_understood) or "nothing"
        note = f"{found.tool}'s settings, as the file tells them, unchecked; not understood: {unread}"
        print(f"ldm: note: {one_line(note)}", file=sys.stderr)
    print(printable(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)))
    return 0


def convert(options: argparse.Namespace) -> int:
    """Converts a pickle; prints the new path, and what was no tensor and was left out."""
    from ldm_pipeline.convert import convert as convert_file

    done = convert_file(options.source, options.target)
    print(options.target)
    for entry in done.left_out:
        print(f"left out: {printable(entry)}")
    return 0


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"ldm: warning: {one_line(message)}", file=sys.stderr)
