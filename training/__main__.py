"""`python -m training PART --recipe NAME`: the command line of every run.

Knows nothing of networks; `commands.py` does the work and is imported once the arguments are understood.
"""

import os
import shlex
import sys
from pathlib import Path

from ldm_pipeline.cli import OneLineParser
from training.data import check

PARTS = {
    "scenes": "render the recipe's pictures",
    "recogniser": "train recogniser 1, for the perceptual loss",
    "judge": "train recogniser 2, which only judges",
    "vae": "train the VAE and fold its latent statistics in",
    "clip": "train tokenizer and CLIP, export the text encoder",
    "unet": "train the latent UNet",
    "export": "join the runs into one pipeline folder",
    "evaluate": "score a pipeline folder with the judge",
    "data": "look at pictures before training on them: data check DIR",
    "card": "write a pipeline folder's model card anew, with the report that lies in it",
}


def build_parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m training", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, purpose in PARTS.items():
        part = parts.add_parser(name, help=purpose, description=purpose)
        if name == "data":
            work = part.add_subparsers(dest="work", required=True, metavar="WORK")
            check.add_arguments(work.add_parser("check", help="print a report; nothing there is changed"))
            continue
        part.add_argument(
            "--recipe", default="postcards128", help="smoke, postcards64, postcards128, postcards256"
        )
        part.add_argument(
            "--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)"
        )
        part.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="change the recipe, e.g. unet.fit.batch_size=32 (repeatable; the same for every part)",
        )
        if name in ("recogniser", "judge", "vae", "clip", "unet"):
            part.add_argument("--steps", type=int, help="train to this step instead of the recipe's last")
            part.add_argument(
                "--dry-run", action="store_true", help="print parameters, memory, samples, hours"
            )
            part.add_argument(
                "--precision", choices=("bf16", "no"), help="default: accelerate launch's own, else bf16"
            )
        if name in ("vae", "unet"):
            part.add_argument(
                "--init-from", type=Path, help="pipeline folder whose weights to start warm from"
            )
        if name in ("unet", "export"):
            part.add_argument("--prediction", choices=("flow", "epsilon", "v"), help="what the UNet predicts")
        if name == "export":
            part.add_argument("--out", type=Path, required=True, help="pipeline folder to write")
            part.add_argument(
                "--note", action="append", default=[], help="a line for the model card (repeatable)"
            )
            part.add_argument("--judge-out", type=Path, help="folder to write the judge to")
        if name in ("evaluate", "card"):
            part.add_argument("model", type=Path, help="pipeline folder")
        if name == "evaluate":
            part.add_argument("--judge", type=Path, help="folder of the judge (default: the runs' own)")
            part.add_argument("--out", type=Path, help="folder for report.json and grids")
            part.add_argument("--prompts", type=int, default=64, help="number of fresh prompts")
            part.add_argument(
                "--pairs", type=int, default=256, help="pairs with and without the negative prompt"
            )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one part; 0 on success, 2 on bad input or a run that cannot go on, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    try:
        from safetensors import SafetensorError

        try:
            if options.part == "data":
                check.check(options)
            else:
                from training import commands

                commands.COMMANDS[options.part](options)
        # RuntimeError: a checkpoint's, an accelerator's memory, a killed rendering process.
        except (ValueError, OSError, RuntimeError, MemoryError, ArithmeticError, SafetensorError) as error:
            return _fail(" ".join(str(error).split()) or type(error).__name__)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; `pip install '.[train]'` in a checkout brings it.")
    except KeyboardInterrupt as stop:
        print(f"\nstopped: {stop or 'nothing is lost'}; go on with: {_command(arguments)}", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _command(arguments: list[str]) -> str:
    """The command line that goes on with this run."""
    launcher = ["accelerate", "launch"] if "ACCELERATE_MIXED_PRECISION" in os.environ else ["python"]
    return shlex.join([*launcher, "-m", "training", *arguments])


if __name__ == "__main__":
    sys.exit(main())
