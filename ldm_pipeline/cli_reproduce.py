"""`ldm reproduce`: a picture file -> the picture drawn again, and a verdict in one line.

It knows no tensors and no recipes; torch is imported only once the arguments are understood.
"""

import argparse
from pathlib import Path
from typing import Any

from ldm_pipeline.terminal import one_line

EXIT_STATUS = {"bit-exact": 0, "equal": 1, "different": 2}


def add_reproduce(commands: Any) -> None:
    """Add the command to `ldm`'s."""
    again = commands.add_parser(
        "reproduce",
        help="draw a picture again and compare",
        description="Draw a picture again from the recipe in its file, and compare. Exit status 0: bit-exact;"
        " 1: equal within the tolerance; 2: different, or it cannot be drawn.",
    )
    again.set_defaults(run=reproduce)
    again.add_argument("file", type=Path, help="a picture saved by this project")
    again.add_argument("--image", type=Path, metavar="FILE", help="the picture that it started from")
    again.add_argument("--mask", type=Path, metavar="FILE", help="the mask that it was drawn with")
    again.add_argument("--model", metavar="MODEL", help="a name, a folder or a file; else found by its hash")
    again.add_argument(
        "--lora", type=Path, action="append", default=[], metavar="FILE", help="a LoRA's file (repeatable)"
    )
    again.add_argument("--device", metavar="NAME", help="else as it was")
    again.add_argument(
        "--tolerance",
        type=int,
        metavar="N",
        help="N/255 by which a color may differ and still be equal; else 2 in float32, 48 in half precision",
    )
    again.add_argument("--out", type=Path, metavar="FOLDER", help="save the new picture there")


def reproduce(options: argparse.Namespace) -> int:
    """Draws the picture again, prints the verdict, and gives it as the exit status."""
    for file in (options.file, options.image, options.mask, *options.lora):
        if file and not file.is_file():
            raise ValueError(f"{str(file)!r} is not a file: check the path")
    from ldm_pipeline.cli_generate import quiet_libraries

    quiet_libraries()
    from ldm_pipeline.images import open_picture
    from ldm_pipeline.reproduce import reproduce as draw_again
    from ldm_pipeline.saving import write_pictures

    files = {"image": options.image, "mask_image": options.mask}
    done = draw_again(
        options.file,
        model=options.model,
        loras=options.lora,
        inputs={name: open_picture(file) for name, file in files.items() if file},
        device=options.device,
        tolerance=options.tolerance,
    )
    print(f"{one_line(options.file.name)}: {one_line(done)}", flush=True)
    if options.out:
        for path in write_pictures([done.picture], options.out, recipes=[done.recipe]):
            print(path, flush=True)
    return EXIT_STATUS[done.level]
