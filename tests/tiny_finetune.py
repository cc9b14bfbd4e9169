"""Fine-tunings of tiny components on pictures made of numbers.

As a program, `python -m tests.tiny_finetune ...`, it takes the words of `python -m training finetune`. It
knows nothing of what is tested with it.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from training.bases import Base
from training.draws import generator
from training.finetune_command import Opened, finetune
from training.options import Options

SIZES = ((64, 64), (48, 64))
COLORS = ("red", "black", "sunny")
THINGS = ("dog", "cat", "car", "umbrella", "city")


class NumberPictures:
    """A picture set without files: stripes and blots that are a function of (first, index)."""

    def __init__(
        self, count: int, *, first: int = 0, word: str = "", sizes: Sequence[tuple[int, int]] = SIZES
    ):
        self.count, self.first, self.word, self.sizes = count, first, word, tuple(sizes)
        self.key = f"numbers-{count}-{first}-{word}-{sizes}"

    def __len__(self) -> int:
        return self.count

    def bucket_of(self, index: int) -> int:
        return (index + self.first) % 3 % len(self.sizes)

    def tensor(self, index: int, *, draws: torch.Generator | None = None) -> Tensor:
        height, width = self.sizes[self.bucket_of(index)]
        own = generator(7, "picture", self.first + index)
        coarse = torch.randn(1, 3, 4, 4, generator=own)
        picture = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].tanh()
        return picture if draws is None else (picture + torch.randn((), generator=draws) * 0.1).clamp(-1, 1)

    def captions(self, index: int) -> Sequence[str]:
        number = self.first + index
        plain = f"a {COLORS[number % 3]} {THINGS[number % 5]}"
        return (f"{plain}{self.word}", f"the {plain.removeprefix('a ')} in paris{self.word}")

    def caption(self, index: int, *, draws: random.Random) -> str:
        captions = self.captions(index)
        return captions[draws.randrange(len(captions))]

    def batch_at(self, *, seed: int, step: int, batch_size: int) -> list[int]:
        draws = generator(seed, "numbers", step)
        bucket = int(torch.randint(0, len(self.sizes), (), generator=draws))
        members = [i for i in range(self.count) if self.bucket_of(i) == bucket] or list(range(self.count))
        return [members[i] for i in torch.randint(0, len(members), (batch_size,), generator=draws).tolist()]


def open_numbers(options: Options, base: Base, cache: Path | None) -> Opened:
    """`--data COUNT`, with crops and shuffles as the other flags say."""
    count, word = int(options.data[0]), f" {options.token}" if options.token else ""
    return Opened(
        training=NumberPictures(count, word=word),
        held_out=NumberPictures(int(count * options.held_out), first=count, word=word),
        views_vary=options.crop or options.background == "random",
        captions_vary=options.shuffle_tags,
    )


def options_of(*words: str) -> Options:
    """What the command line makes of the words after `finetune`."""
    from training.__main__ import build_parser

    return build_parser().parse_args(["finetune", *words])


def run(*words: str) -> None:
    """Fine-tune in this process."""
    finetune(options_of(*words), open_pictures=open_numbers)


if __name__ == "__main__":
    run(*sys.argv[1:])
    state = PartialState()
    print(f"{state.num_processes} processes, {state.distributed_type.name}", flush=True)
    state.destroy_process_group()
