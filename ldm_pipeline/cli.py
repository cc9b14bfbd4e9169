"""The command `ldm`: words on a command line -> picture files, or one line that says what is wrong.

It knows no tensors; torch and diffusers are imported only once there is a checked request to draw.
"""

import argparse
import json
import re
import secrets
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ldm_pipeline.cli_compare import register_compare
from ldm_pipeline.request import LARGEST_SEED, GenerationRequest, check_seed

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
NOT_NEEDED = ("scipy", "torchvision")
"""The bundled model needs none of them; transformers imports them where it can, for a second or two."""


class OneLineParser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated flags, so that a new flag breaks no old command."""

    def __init__(self, **keywords):
        super().__init__(**keywords, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line on stderr."""
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {_one_line(message)} (see {self.prog} --help)\n")


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
            print("ldm: interrupted; the pictures listed above are saved", file=sys.stderr)
            return EXIT_INTERRUPTED
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # RuntimeError: accelerator memory
            print(f"ldm: error: {_one_line(error) or type(error).__name__}", file=sys.stderr)
            return EXIT_BAD_INPUT


def parser() -> argparse.ArgumentParser:
    """The command line of `ldm`; each subcommand names the function that runs it."""
    top = OneLineParser(prog="ldm", description="Draw pictures with a latent diffusion model, offline.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    draw = commands.add_parser(
        "generate", help="draw pictures of a prompt", description="Draw pictures of a prompt."
    )
    draw.set_defaults(run=generate)
    draw.add_argument("prompt", help="what to draw, in quotes")
    draw.add_argument("--negative-prompt", metavar="TEXT", help="what to keep out of the picture")
    draw.add_argument(
        "--seed", type=int, metavar="N", help="of the first picture, the next has N + 1; fresh if left out"
    )
    draw.add_argument(
        "-n", "--number", type=int, default=1, metavar="N", help="how many pictures (default: 1)"
    )
    draw.add_argument(
        "--out",
        type=Path,
        default=Path("pictures"),
        metavar="FOLDER",
        help="where to save them (default: pictures)",
    )
    draw.add_argument("--image", type=Path, metavar="FILE", help="a picture to start from")
    draw.add_argument(
        "--mask", type=Path, metavar="FILE", help="with --image: redraw only where this is white"
    )
    draw.add_argument(
        "--strength", type=float, metavar="S", help="with --image: how much to redraw, in (0, 1]"
    )
    draw.add_argument(
        "--model", metavar="MODEL", help="a name, a folder or a .safetensors file; else the bundled model"
    )
    draw.add_argument("--lora", type=Path, metavar="FILE", help="a LoRA, .safetensors")
    draw.add_argument("--scheduler", metavar="NAME", help='e.g. "dpm++" or "unipc"; else the model\'s own')
    draw.add_argument("--steps", type=int, metavar="N", help="denoising steps; else the model's own")
    draw.add_argument(
        "--guidance-scale", type=float, metavar="G", help="how closely to follow; else the model's own"
    )
    draw.add_argument(
        "--size", type=_size, metavar="WxH", help="pixels, e.g. 128x96 or 128; else the model's own"
    )
    draw.add_argument("--device", metavar="NAME", help='e.g. "cpu" or "cuda"; else the best one here')
    draw.add_argument(
        "--dtype",
        default="auto",
        metavar="TYPE",
        help="float32, float16, bfloat16, or auto (default): bfloat16 where the hardware has it",
    )

    register_compare(commands, quiet=_quiet_libraries)

    show = commands.add_parser(
        "inspect", help="print what made a picture", description="Print a PNG file's recipe."
    )
    show.set_defaults(run=inspect)
    show.add_argument("file", type=Path, help="a picture saved by this project")

    change = commands.add_parser(
        "convert",
        help="make safetensors of a pickle",
        description="Write a .ckpt, .bin or .pt file's tensors as .safetensors; nothing in it is run.",
    )
    change.set_defaults(run=convert)
    change.add_argument("source", type=Path, metavar="IN", help="a .ckpt, .bin, .pt or .pth file")
    change.add_argument("target", type=Path, metavar="OUT", help="the .safetensors file to write")
    return top


def generate(options: argparse.Namespace) -> int:
    """Draws and saves one picture after the other, so that what is done stays done; prints each new path."""
    request = _check_before_loading(options)

    if options.scheduler is None and options.model is None:  # some schedulers do need scipy
        _leave_out(NOT_NEEDED)
    _quiet_libraries()
    from ldm_pipeline.images import open_picture
    from ldm_pipeline.loading import load_pipeline
    from ldm_pipeline.saving import save_pictures

    image = open_picture(options.image) if options.image else None
    mask_image = open_picture(options.mask) if options.mask else None
    pipeline = load_pipeline(
        options.model,
        device=options.device,
        dtype=options.dtype,
        lora=options.lora,
        scheduler=options.scheduler,
    )
    for index, seed in enumerate(request.seeds):
        pipeline.set_progress_bar_config(desc=f"picture {index + 1} of {options.number}", leave=False)
        output = pipeline(
            options.prompt,
            negative_prompt=options.negative_prompt,
            image=image,
            mask_image=mask_image,
            strength=options.strength,
            width=request.width,
            height=request.height,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance_scale,
            seed=seed,
        )
        for path in save_pictures(
            output, options.out, pipeline=pipeline, image=image, mask_image=mask_image, lora=options.lora
        ):
            print(path, flush=True)
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Prints a picture's recipe as JSON."""
    from ldm_pipeline.recipe import read_recipe

    recipe = json.loads(read_recipe(options.file).to_json())
    print(_printable(json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False)))
    return 0


def convert(options: argparse.Namespace) -> int:
    """Converts a pickle; prints the new path, and what was no tensor and was left out."""
    from ldm_pipeline.convert import convert as convert_file

    done = convert_file(options.source, options.target)
    print(options.target)
    for entry in done.left_out:
        print(f"left out: {_printable(entry)}")
    return 0


def _check_before_loading(options: argparse.Namespace) -> GenerationRequest:
    """Finds what can be wrong without a model, before torch is imported; one seed per picture."""
    if options.number < 1:
        raise ValueError(f"-n {options.number} is not allowed: draw at least 1 picture")
    if options.seed is not None:
        check_seed(options.seed)
        if options.seed + options.number - 1 > LARGEST_SEED:
            raise ValueError(
                f"seed={options.seed} with -n {options.number} passes {LARGEST_SEED}: use a smaller seed"
            )
    if options.mask and not options.image:
        raise ValueError("--mask needs --image: a mask says which part of a picture to redraw")
    if options.strength is not None and not options.image:
        raise ValueError("--strength needs --image: it says how much of a picture to redraw")
    for text in (options.prompt, options.negative_prompt or ""):
        text.encode()  # what is no UTF-8 cannot be written into a file; a UnicodeError is a ValueError
    for file in (options.image, options.mask, options.lora):
        if file and not file.is_file():
            raise ValueError(f"{str(file)!r} is not a file: check the path")
    first = options.seed if options.seed is not None else secrets.randbelow(LARGEST_SEED + 2 - options.number)
    width, height = options.size or (None, None)
    given: dict[str, Any] = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "strength": options.strength,
        "start": "picture" if options.strength is not None else None,
        "width": width,
        "height": height,
    }
    request = GenerationRequest(
        prompts=(options.prompt,),
        num_images_per_prompt=options.number,
        seeds=tuple(range(first, first + options.number)),
        **{name: value for name, value in given.items() if value is not None},
    )
    options.out.mkdir(parents=True, exist_ok=True)
    return request


def _leave_out(packages: Sequence[str]) -> None:
    """Lets libraries that look for these packages find none, unless they are imported already."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _quiet_libraries() -> None:
    """Silences bars of loading and notes to programmers, e.g. on packages that drawing does not need."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()


def _size(text: str) -> tuple[int, int]:
    """ "128x96" -> (128, 96), "128" -> (128, 128): width, height in pixels."""
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write width x height in pixels, e.g. 128x96")
    return int(match[1]), int(match[2] or match[1])


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"ldm: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return _printable(" ".join(str(message).split()))


def _printable(text: str) -> str:
    """Escapes what a file's author could steer a terminal with and what UTF-8 cannot hold, but line feeds."""
    unsafe = r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    return re.sub(unsafe, lambda found: f"\\u{ord(found[0]):04x}", text)
