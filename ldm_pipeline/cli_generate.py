"""`ldm generate`: a prompt, or a picture's recipe, and flags -> picture files.

It knows no tensors; torch and diffusers are imported only once there is a checked request to draw.
"""

import argparse
import dataclasses
import re
import secrets
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ldm_pipeline.request import LARGEST_SEED, GenerationRequest, check_seed

TAG = re.compile(r"<((?:lora|lyco|hypernet):[^<>]{1,200})>")
NOT_NEEDED = ("scipy", "torchvision", "peft", "bitsandbytes")
"""The bundled model needs none of them without a LoRA; transformers and diffusers import them where they can,
for a second or two."""


def add_generate(commands: Any) -> None:
    """Add the command to `ldm`'s."""
    draw = commands.add_parser(
        "generate", help="draw pictures of a prompt", description="Draw pictures of a prompt."
    )
    draw.set_defaults(run=generate, sampler=None)
    draw.add_argument("prompt", nargs="?", help="what to draw, in quotes; with --from it may be left out")
    draw.add_argument(
        "--from",
        dest="like",
        type=Path,
        metavar="FILE",
        help="start from this picture's recipe, or another tool's settings: flags change what they name",
    )
    draw.add_argument("--negative-prompt", metavar="TEXT", help="what to keep out of the picture")
    draw.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the first picture, the next has N + 1; fresh if left out, or --from's own",
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
    lora = 'a LoRA, .safetensors, or a bundled one\'s name: "few_steps" draws in four'
    draw.add_argument("--lora", type=lora_file, metavar="FILE", help=lora)
    draw.add_argument("--scheduler", metavar="NAME", help='e.g. "dpm++" or "unipc"; else the model\'s own')
    draw.add_argument("--steps", type=int, metavar="N", help="denoising steps; else the model's own")
    draw.add_argument(
        "--guidance-scale", type=float, metavar="G", help="how closely to follow; else the model's own"
    )
    draw.add_argument(
        "--size", type=_size, metavar="WxH", help="pixels, e.g. 128x96 or 128; else the model's own"
    )
    draw.add_argument(
        "--prompt-syntax",
        choices=("plain", "a1111"),
        help="a1111: (word:1.3) and [word] weigh words; plain (default): they are read as they stand",
    )
    draw.add_argument("--device", metavar="NAME", help='e.g. "cpu" or "cuda"; else the best one here')
    draw.add_argument(
        "--dtype",
        metavar="TYPE",
        help="float32, float16, bfloat16, or auto (default): bfloat16 where the hardware has it",
    )
    draw.add_argument(
        "--format", default="png", choices=("png", "webp", "jpeg"), help="of the files (default: png)"
    )
    draw.add_argument(
        "--metadata",
        default="full",
        choices=("full", "public", "none"),
        help="what the files tell: everything (default), all but prompts and names, or only that they are"
        " generated",
    )


def generate(options: argparse.Namespace) -> int:
    """Draws and saves one picture after the other, so that what is done stays done; prints each new path."""
    recipe = _recipe_to_start_from(options)
    request = _check_before_loading(options)

    plain = (options.scheduler, options.sampler, options.model, options.lora, recipe) == (None,) * 5
    with left_out(NOT_NEEDED) if plain else nullcontext():  # all others may need them
        return _draw(options, request, recipe)


def _draw(options: argparse.Namespace, request: GenerationRequest, recipe: Any) -> int:
    """Draws what was checked."""
    quiet_libraries()
    from ldm_pipeline.folder import file_hash
    from ldm_pipeline.images import open_picture
    from ldm_pipeline.loading import load_pipeline
    from ldm_pipeline.recipe_parts import LoraRecord, plain_name
    from ldm_pipeline.replay import arguments_of, open_for
    from ldm_pipeline.saving import save_pictures

    given: dict[str, Any] = {
        "prompt": options.prompt,
        "negative_prompt": options.negative_prompt,
        "image": open_picture(options.image) if options.image else None,
        "mask_image": open_picture(options.mask) if options.mask else None,
        "prompt_syntax": options.prompt_syntax,
        "strength": options.strength,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance_scale,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if recipe is None:
        settings: dict[str, Any] = {}
        pipeline = load_pipeline(
            options.model,
            device=options.device,
            dtype=options.dtype or "auto",
            lora=options.lora,
            scheduler=options.scheduler,
        )
    else:
        if options.lora:  # in place of the recipe's own
            own = LoraRecord(name=plain_name(options.lora.name), hash=file_hash(options.lora))
            recipe = dataclasses.replace(recipe, loras=(own,), lora_scale=None)
        inputs = {name: given[name] for name in ("image", "mask_image") if name in given}
        settings = arguments_of(recipe, inputs=inputs, as_they_were=False)[0]
        pipeline = open_for(
            recipe,
            model=options.model,
            loras=[options.lora] if options.lora else [],
            device=options.device,
            dtype=options.dtype,
        )
        if options.scheduler is not None:
            pipeline.use_scheduler(options.scheduler)
    if options.sampler is not None:
        _use_sampler(pipeline, options.sampler)
    for index, seed in enumerate(request.seeds):
        pipeline.set_progress_bar_config(desc=f"picture {index + 1} of {options.number}", leave=False)
        output = pipeline(**{**settings, **given, "seed": seed})
        for path in save_pictures(output, options.out, metadata=options.metadata, format=options.format):
            print(path, flush=True)
    return 0


def _recipe_to_start_from(options: argparse.Namespace) -> Any:
    """Reads --from's recipe: ours, whose seed is filled in, or None and another tool's settings as flags."""
    if options.like is None:
        if options.prompt is None:
            raise ValueError("prompt is missing: say what to draw, in quotes, or give --from FILE")
        return None
    from ldm_pipeline.foreign import read_made_by
    from ldm_pipeline.recipe import PictureRecipe

    found = read_made_by(options.like)
    if isinstance(found, PictureRecipe):
        if options.seed is None:
            options.seed = found.seed
        return found
    _take_settings(options, found)
    return None


def _take_settings(options: argparse.Namespace, found: Any) -> None:
    """Fills in the flags that were not given from another tool's settings, and warns of what has no flag."""
    prompt, tags = _without_tags(found.prompt)
    weighs = found.tool == "A1111" and options.prompt is None
    told: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": found.negative_prompt or None,
        "prompt_syntax": "a1111" if weighs else None,
        "seed": found.seed,
        "steps": found.steps,
        "guidance_scale": found.guidance_scale,
        "size": (found.width, found.height) if found.width and found.height else None,
        "strength": found.strength if options.image else None,
    }
    for name, value in told.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.scheduler is None and found.sampler:
        options.sampler = f"{found.sampler} {found.schedule}".strip()
    others = [entry.name for entry in (*found.models, *found.loras) if entry.name]
    left = [f"model or LoRA {name}" for name in others] if options.model is None else []
    left += [f"<{tag}>" for tag in tags]
    left += [f"{name} of {found.tool}" for name in found.not_understood]
    if left:
        warnings.warn(f"--from leaves out {', '.join(left)}", stacklevel=2)


def _without_tags(prompt: str) -> tuple[str, list[str]]:
    """A1111's prompt without its tags of LoRAs and their like, and those."""
    tags = TAG.findall(prompt)
    return (re.sub(r"\s*,\s*$", "", TAG.sub("", prompt).strip()) if tags else prompt), tags


def _use_sampler(pipeline: Any, sampler: str) -> None:
    """Takes another tool's sampler where it is one of ours, without its noise spacing if need be."""
    reasons = []
    for name in (sampler, sampler.removesuffix(" Automatic"), sampler.rpartition(" ")[0]):
        try:
            return pipeline.use_scheduler(name)
        except ValueError as error:
            reasons.append(error)
    warnings.warn(f"--from's sampler is left out, the model's own is used: {reasons[0]}", stacklevel=2)


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
    if options.mask and not options.image and not options.like:
        raise ValueError("--mask needs --image: a mask says which part of a picture to redraw")
    if options.strength is not None and not options.image and not options.like:
        raise ValueError("--strength needs --image: it says how much of a picture to redraw")
    for text in (options.prompt or "", options.negative_prompt or ""):
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
        prompts=(options.prompt or "",),
        num_images_per_prompt=options.number,
        seeds=tuple(range(first, first + options.number)),
        **{name: value for name, value in given.items() if value is not None},
    )
    options.out.mkdir(parents=True, exist_ok=True)
    return request


@contextmanager
def left_out(packages: Sequence[str]) -> Iterator[None]:
    """Lets libraries that look for these packages meanwhile find none, unless they are imported already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def lora_file(text: str) -> Path:
    """The file that `--lora` stands for."""
    from ldm_pipeline.folder import lora_path

    return lora_path(text)


def quiet_libraries() -> None:
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
