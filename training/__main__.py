"""`python -m training PART --recipe NAME`: the command line of every run.

Knows nothing of networks; `commands.py` does the work and is imported once the arguments are understood.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from ldm_pipeline.terminal import OneLineParser
from training.allocator import keep_freed_memory
from training.data import check

PARTS = {
    "scenes": "render the recipe's pictures",
    "recogniser": "train recogniser 1, for the perceptual loss",
    "judge": "train recogniser 2, which only judges",
    "second_judge": "train recogniser 3, to see where judges disagree",
    "vae": "train the VAE and fold its latent statistics in",
    "clip": "train tokenizer and CLIP, export the text encoder",
    "text": "for a warm leg: the text encoder learns more of what captions claim",
    "unet": "train the latent UNet",
    "few_steps": "train an adapter with which a pipeline folder draws in four steps",
    "finetune": "teach a model your own pictures: all weights, a LoRA, or a new word",
    "export": "join the runs into one pipeline folder",
    "evaluate": "score a pipeline folder with the judge",
    "audit": "hold what a pipeline folder draws unasked against what its training data hold",
    "data": "look at pictures before training on them: data check DIR",
    "card": "write a pipeline folder's model card anew, with the report that lies in it",
}


def build_parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m training", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, purpose in PARTS.items():
        part = parts.add_parser(name, help=purpose, description=purpose)
        if name == "finetune":
            _add_finetune(part)
            continue
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
        if name in ("recogniser", "judge", "second_judge", "vae", "clip", "text", "unet", "few_steps"):
            part.add_argument("--steps", type=int, help="train to this step instead of the recipe's last")
            part.add_argument(
                "--dry-run", action="store_true", help="print parameters, memory, samples, hours"
            )
            part.add_argument(
                "--precision",
                choices=("bf16", "fp16", "no"),
                help="default: accelerate launch's own, else bf16",
            )
        if name in ("recogniser", "judge", "second_judge"):
            part.add_argument("--init-from", type=Path, help="folder of a recogniser to go on from")
        if name in ("vae", "text", "unet", "few_steps"):
            part.add_argument(
                "--init-from",
                type=Path,
                required=name in ("text", "few_steps"),
                help="pipeline folder whose weights to start warm from",
            )
        if name == "unet":
            part.add_argument("--text-from", type=Path, help="folder of another text encoder to go on with")
            part.add_argument("--vae-from", type=Path, help="folder of another VAE to go on with")
        if name == "scenes":
            part.add_argument("--shards", type=Path, help="folder to write them to as WebDataset shards too")
        if name in ("unet", "export"):
            part.add_argument("--prediction", choices=("flow", "epsilon", "v"), help="what the UNet predicts")
        if name == "export":
            part.add_argument("--out", type=Path, required=True, help="pipeline folder to write")
            part.add_argument(
                "--note", action="append", default=[], help="a line for the model card (repeatable)"
            )
            part.add_argument("--judge-out", type=Path, help="folder to write the judge to")
        if name == "audit":
            _add_audit(part)
        if name in ("evaluate", "card"):
            part.add_argument("model", type=Path, help="pipeline folder")
        if name == "evaluate":
            part.add_argument(
                "--judge",
                type=Path,
                help="folder of the judge (default: the runs' own, else the bundled one)",
            )
            part.add_argument(
                "--second-judge",
                type=Path,
                help="folder of another judge (default: the runs' own, else a bundled one, else none)",
            )
            part.add_argument("--no-second-judge", action="store_true", help="one judge is enough")
            part.add_argument("--out", type=Path, help="folder for report.json and grids")
            part.add_argument("--prompts", type=int, default=64, help="number of fresh prompts")
            part.add_argument("--tasks", type=int, default=64, help="prompts of each of the eight tasks")
            part.add_argument(
                "--pairs", type=int, default=256, help="pairs with and without the negative prompt"
            )
            part.add_argument(
                "--dtype",
                choices=("float32", "auto"),
                default="float32",
                help="what the pipeline computes in; auto: the fastest here, as in ldm (default: float32)",
            )
            part.add_argument("--lora", type=Path, help="a LoRA, .safetensors, to draw with")
            part.add_argument(
                "--num-inference-steps", type=int, help="denoising steps (default: the folder's)"
            )
            part.add_argument(
                "--exam", type=int, default=2_000, help="real renders to examine the judge on; 0: none"
            )
            part.add_argument(
                "--distances", type=int, default=1_000, help="most pictures to compare with renders (KID)"
            )
            part.add_argument(
                "--copying", type=int, default=2_000, help="training pictures to search for copies"
            )
            part.add_argument("--diversity", type=int, default=32, help="prompts whose seeds are compared")
            part.add_argument(
                "--curves", action="store_true", help="scores by guidance scale and by number of steps, too"
            )
    return parser


def _add_audit(part: argparse.ArgumentParser) -> None:
    add = part.add_argument
    add("model", type=Path, help="pipeline folder")
    add("--judge", type=Path, help="folder of the judge (default: the runs' own, else the bundled one)")
    add("--out", type=Path, help="folder for audit.json, audit.md and a contact sheet")
    add("--prompts", type=int, default=32, help="prompts for each question (default: 32)")
    add("--seeds", type=int, default=2, help="pictures of each prompt (default: 2)")
    cell = "ask for a color of a kind in a city too, e.g. rome/bus/red (repeatable)"
    add("--cell", action="append", default=[], metavar="CITY/KIND/COLOR", help=cell)


class _OfData(argparse.Action):
    """Keeps (place, text) of a word that belongs to the `--data` before it; place -1: to all of them."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None):
        place = len(namespace.data or []) - 1
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), (place, values)])


def _add_finetune(part: argparse.ArgumentParser) -> None:
    add = part.add_argument
    add("--recipe", default="lora", help="full, lora, textual_inversion, dreambooth (default: lora)")
    add(
        "--base", help="bundled model's name, pipeline folder or .safetensors file (default: the bundled one)"
    )
    add("--prediction", choices=("epsilon", "v"), help="what a single file predicts, where it does not tell")
    data = (
        "folder, metadata file, saved data set or shards; :N shows its pictures N times an epoch (repeatable)"
    )
    add("--data", action="append", required=True, metavar="PATH[:N]", help=data)
    add("--out", type=Path, required=True, help="folder of the run; the result lies in OUT/final")
    add("--resolution", type=int, help="pixels of a square picture's side (default: the base's own)")
    add(
        "--template",
        action=_OfData,
        default=[],
        help='caption made of fields of the --data before it, e.g. "{style} emoji of {name}"; first: of all',
    )
    add(
        "--where",
        action=_OfData,
        default=[],
        metavar="FIELD=VALUE",
        help="of the --data before it only these, e.g. style=flat (repeatable); first: of all",
    )
    add("--background", default="white", help="behind transparent pictures: a color, or random")
    add("--crop", action="store_true", help="crop at random to the nearest shape instead of a few pixels")
    add("--shuffle-tags", action="store_true", help="comma-separated tags in a new order each time")
    add("--keep-first", type=int, default=0, metavar="N", help="tags that stay in front when shuffled")
    add("--held-out", type=float, default=0.05, help="share of the pictures kept for validation")
    add("--strict", action="store_true", help="stop where a picture cannot be used")
    add("--token", help="textual_inversion: the new word, e.g. '<toy>'")
    add("--start-word", help="textual_inversion: a known word near it")
    add("--class-prompt", help='dreambooth: the class that is kept, e.g. "a dog"')
    add("--preview", action="append", default=[], metavar="PROMPT", help="prompt of a preview (repeatable)")
    add("--cache", type=Path, help="folder of encoded pictures and captions (default: OUT/cache)")
    change = "change the recipe, e.g. fit.batch_size=4 or lora.rank=32 (repeatable)"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=change)
    add("--steps", type=int, help="train to this step instead of the recipe's last")
    add("--dry-run", action="store_true", help="print parameters, memory, samples, hours")
    add("--precision", choices=("bf16", "fp16", "no"), help="default: accelerate launch's own, else bf16")


def main(arguments: list[str] | None = None) -> int:
    """Run one part; 0 on success, 2 on bad input or a run that cannot go on, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    try:
        from safetensors import SafetensorError

        if options.part == "finetune":
            from training.finetune_command import finetune as run_part
        elif options.part == "few_steps":
            from training.few_steps_command import few_steps_run as run_part
        elif options.part == "data":
            run_part = check.check
        elif options.part in ("evaluate", "audit"):
            from training import evaluate_command

            run_part = evaluate_command.COMMANDS[options.part]
        else:
            from training.commands import COMMANDS

            run_part = COMMANDS[options.part]
        keep_freed_memory()
        try:
            run_part(options)
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
