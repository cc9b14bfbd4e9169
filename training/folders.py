"""Folders that are whole or absent: written beside, then put in place.

Knows nothing of what is in them.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def deliver(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, then put it in place of `folder`, whose old content stays until then.

    Raises:
        OSError: the disk is full. This and any other error leaves `folder` as it was.
    """
    fresh, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(fresh)
    except SafetensorError as error:  # a plain Exception, also for a full disk
        shutil.rmtree(fresh, ignore_errors=True)
        raise OSError(
            f"{folder} could not be written ({error}); what lay there is untouched: free some disk space."
        ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
