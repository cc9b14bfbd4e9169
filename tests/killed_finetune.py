"""A fine-tuning killed again and again: `python -m tests.killed_finetune KILLS SEED FOLDER WORDS...`.

Every leg is a process of its own, forked from one that has imported all and computed nothing, since
importing takes longer than the legs. It writes FOLDER/whole, uninterrupted, and FOLDER/broken, and prints
what was killed as JSON. It knows nothing of what is tested with it.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests import tiny_finetune

PATIENCE_SECONDS = 300.0


def start(words: Sequence[str], log: Path) -> int:
    """Fork a leg; gives its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        tiny_finetune.run(*words)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def finish(words: Sequence[str], log: Path) -> None:
    _, status = os.waitpid(start(words, log), 0)
    assert status == 0, log.read_text()


def start_and_kill(words: Sequence[str], out: Path, log: Path, *, delay_seconds: float) -> dict[str, float]:
    """Start a leg, wait until it has written a checkpoint of its own, and kill it so much later."""
    root = out / "checkpoints"
    before, child = newest(root), start(words, log)
    deadline, ended = time.monotonic() + PATIENCE_SECONDS, 0
    while not ended and newest(root) == before and time.monotonic() < deadline:
        time.sleep(0.002)
        ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        time.sleep(delay_seconds)
        ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"step": newest(root), "was_running": not ended, "at": time.time()}


def newest(root: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in root.glob("step-*")), default=0)


def main(kills: int, seed: int, folder: Path, words: Sequence[str]) -> None:
    log, draws = folder / "log.txt", random.Random(seed)
    finish([*words, "--out", str(folder / "whole")], log)
    broken = [*words, "--out", str(folder / "broken")]
    killed = [
        start_and_kill(broken, folder / "broken", log, delay_seconds=draws.uniform(0.0, 0.3))
        for _ in range(kills)
    ]
    finish(broken, log)
    print(json.dumps(killed))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
