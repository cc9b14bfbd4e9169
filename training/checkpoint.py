"""Checkpoints that survive kill -9, torn writes and full disks: written beside, then renamed into place.

Knows nothing of networks or optimizers: it keeps named tensors and a JSON-able dict of facts.
"""

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS, FACTS, MANIFEST = "tensors.safetensors", "facts.json", "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or none could be read; says which and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """One restored checkpoint."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    folder: Path


def save_checkpoint(
    run_folder: Path, *, step: int, tensors: dict[str, Tensor], facts: dict[str, Any], keep: int = 2
) -> Path:
    """Write `checkpoints/step-XXXXXXXX` atomically, then delete all but the newest `keep` up to this step.

    What lies after this step was damaged when the run was taken up before it, and goes too.

    The manifest with SHA-256 sums is written last and the folder renamed after fsync, so a folder under its
    final name is complete; older checkpoints are deleted only afterwards.

    Raises:
        CheckpointError: the disk is full.
    """
    root = run_folder / "checkpoints"
    final, partial = root / f"step-{step:08d}", root / f"partial-{step:08d}"
    try:
        for left_by_a_killed_run in root.glob("partial-*"):
            shutil.rmtree(left_by_a_killed_run)
        partial.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / TENSORS)
        (partial / FACTS).write_text(json.dumps({**facts, "step": step}, indent=1, sort_keys=True))
        sums = {name: _sha256(partial / name) for name in (TENSORS, FACTS)}
        for name in sums:
            _sync(partial / name)
        (partial / MANIFEST).write_text(json.dumps(sums, indent=1))
        _sync(partial / MANIFEST)
        if final.exists():
            shutil.rmtree(final)
        os.replace(partial, final)
        _sync(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint at step {step} could not be written under {root} ({_one_line(error)}); earlier ones "
            "are untouched: free some disk space and run the same command again."
        ) from error
    complete = _complete(root)
    newest = complete.index(final) + 1
    for old in complete[: max(0, newest - keep)] + complete[newest:]:
        shutil.rmtree(old)
    return final


def load_latest(run_folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files match their manifest; torn ones are named in a warning and skipped.

    Returns None where no checkpoint was ever written; raises `CheckpointError` if all that exist are damaged.
    """
    folders = _complete(run_folder / "checkpoints")
    for folder in reversed(folders):
        damage = _damage(folder)
        if damage is None:
            facts = json.loads((folder / FACTS).read_text())
            return Checkpoint(facts["step"], load_file(folder / TENSORS), facts, folder)
        warnings.warn(
            f"checkpoint {folder.name} is damaged ({damage}); trying the one before it.", stacklevel=2
        )
    if folders:
        raise CheckpointError(
            f"all {len(folders)} checkpoints under {run_folder} are damaged; delete the run folder to start "
            "anew."
        )
    return None


def _complete(root: Path) -> list[Path]:
    return sorted(root.glob("step-*")) if root.is_dir() else []


def _damage(folder: Path) -> str | None:
    try:
        sums = json.loads((folder / MANIFEST).read_text())
        for name in (TENSORS, FACTS):
            if _sha256(folder / name) != sums[name]:
                return f"{name} differs from its checksum"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
