"""Memory that one training step has freed is kept for the next one, instead of going back to the system.

Knows nothing of tensors.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of these settings in glibc's malloc.h."""
MOST_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what this process frees; whether there is one and it agreed.

    Every step asks for the same large blocks; by default they are given back and fetched anew, cleared by the
    system page by page. Without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, MOST_BYTES)) and bool(mallopt(TRIM_THRESHOLD, MOST_BYTES))
