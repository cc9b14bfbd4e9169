"""What a process has freed stays with it, where the allocator can be told so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from training.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
for _ in range(2):
    block = bytearray(256 * 2**20)
    del block
pages = int(open("/proc/self/statm").read().split()[1])
print(kept, pages * 4096 // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_stays_with_the_process():
    def told(word: str) -> tuple[str, int]:
        command = [sys.executable, "-c", PROGRAM, word]
        kept, megabytes = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split()
        return kept, int(megabytes)

    kept, megabytes = told("keep")
    if kept == "False":
        pytest.skip("this system's allocator cannot be told")
    assert megabytes >= 256 and told("free")[1] < 200
