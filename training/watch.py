"""Follows a run while it goes on: progress bar, log lines, and a report whenever a checkpoint is saved.

Knows nothing of what is trained or reported.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tqdm import tqdm

from training.logbook import Logbook
from training.loop import FitConfig, Progress

LOG_EVERY_STEPS = 10


def watch(
    progresses: Iterator[Progress],
    folder: Path,
    fit: FitConfig,
    *,
    report: Callable[[Progress, Logbook], None] | None,
    writes: bool,
) -> None:
    """Follow a run to its end; one process `writes`, the others only compute; without `report` it logs only.

    A run that is taken up again first makes up for the lines that it owes for its checkpoint's step.
    """
    if not writes:
        for _ in progresses:
            pass
        return
    losses: dict[str, float] = {}
    book, bar = None, None
    with ExitStack() as closes:
        for progress in progresses:
            step = progress.step
            if book is None or bar is None:
                first = step if progress.restored else step - 1
                book = closes.enter_context(closing(Logbook(folder, first_step=first)))
                bar = closes.enter_context(
                    tqdm(total=fit.total_steps, initial=first, unit="step", desc=folder.name, mininterval=5)
                )
            written: set[str] = set()
            if progress.restored:
                written = book.names_at(step)
                if step >= fit.total_steps:
                    tqdm.write(f"{folder} is complete at step {step}.")
            else:
                bar.update(1)
            for name, value in progress.losses.items():
                losses[name] = value if name not in losses else 0.95 * losses[name] + 0.05 * value
            if not progress.restored:
                bar.set_postfix_str(
                    f"loss {losses['loss']:.4f}, {progress.samples_per_second:.0f} samples/s", refresh=False
                )
            if step % LOG_EVERY_STEPS == 0 and progress.losses and "train/loss" not in written:
                book.write(step, _numbers(progress))
            due = step % fit.save_every_steps == 0 or step == fit.total_steps
            if due and report is not None and not any(name.startswith("held_out/") for name in written):
                report(progress, book)


def _numbers(progress: Progress) -> dict[str, float]:
    numbers = {f"train/{name}": value for name, value in progress.losses.items()}
    numbers |= {"learning_rate": progress.learning_rate, "gradient_norm": progress.gradient_norm}
    if not progress.restored:
        numbers["samples_per_second"] = progress.samples_per_second
    return numbers
