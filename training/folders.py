"""Folders that are whole or absent: written beside, then put in place.

Knows nothing of what is in them.
"""

import shutil
from collections.abc import Callable
from pathlib import Path


def deliver(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, then put it in place of `folder`, whose old content stays until then."""
    fresh, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    write(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
