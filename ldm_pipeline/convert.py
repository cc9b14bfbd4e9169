"""A pickle of tensors (`.ckpt`, `.bin`, `.pt`, `.pth`) -> a `.safetensors` file, read in a locked-up process.

Knows nothing of models: names and numbers go over as they are.
"""

# Unpickling can run code, and torch's `weights_only` is no boundary by itself (CVE-2025-32434,
# CVE-2026-24747). So this file is also the program of the child process: it must import nothing of this
# package, for the child starts with an empty environment and without this process's search path.

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
CPU_SECONDS = 900
MEMORY_BYTES = 12 * 2**30
"""Address space beyond four times the file: importing torch maps some, and far more where it brings CUDA."""
LARGEST_REPORT_BYTES = 2**20
DEEPEST_NESTING = 16
FORBIDDEN_EVENTS = (
    "subprocess.",
    "os.",
    "socket.",
    "ctypes.",
    "shutil.",
    "pickle.find_class",
    "exec",
    "compile",
)
"""Audit events, by their beginning, that end the child once it starts to read."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion wrote, and what it left behind."""

    tensors: int
    """How many tensors the new file holds."""
    left_out: tuple[str, ...]
    """Entries that are no tensors, as "name (type)"."""


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Converted:
    """Write the tensors of a pickle to a new `.safetensors` file; nothing that the pickle names is run.

    A child process reads it: with torch's `weights_only` alone, an empty environment, a temporary folder of
    its own, limits on time, memory and file size, and an end at its first attempt to start a program, open a
    connection or look up a class. Nested names are joined by dots; the contents of a checkpoint's
    "state_dict" keep their names; an embedding of textual inversion becomes one tensor under its name.

    ValueError in one line for a file that is no such pickle or wants to run something, for a target that
    exists, and for one that is not named `.safetensors`.
    """
    source, target = Path(source), Path(target)
    shown = _one_line(source)
    if not source.is_file():
        raise ValueError(f"source={shown} is not a file: check the path")
    if source.suffix.lower() not in PICKLES:
        raise ValueError(f"source={shown} is no pickle by its name: convert reads {', '.join(PICKLES)}")
    if target.suffix.lower() != ".safetensors":
        raise ValueError(
            f"target={_one_line(target)} has another ending: use a name that ends in .safetensors"
        )
    _refuse_taken(target)
    if not target.parent.is_dir():
        raise ValueError(
            f"target={_one_line(target)} lies in no folder: make {_one_line(target.parent)} first"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as own:
        report = _read_in_child(source, Path(own))
        if "error" in report:
            raise ValueError(f"source={shown} was not converted: {_one_line(report['error'])}")
        left_out = tuple(_one_line(entry) for entry in report["left_out"])
        fresh = Path(own) / "fresh.safetensors"
        tensors = _checked(fresh, shown)
        _put_in_place(fresh, target)
    return Converted(tensors=tensors, left_out=left_out)


def _read_in_child(source: Path, own: Path) -> dict[str, Any]:
    """Run this file as a program on `source`; it writes `fresh.safetensors` and `report.json` into `own`."""
    memory = MEMORY_BYTES + 4 * source.stat().st_size
    # -I: no PYTHON* variables, no user site, no current folder on the search path.
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(source.resolve()), str(memory)]
    surroundings = {"HOME": str(own.resolve()), "TMPDIR": str(own.resolve()), "OMP_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            command,
            cwd=own,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * CPU_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took longer than {2 * CPU_SECONDS} s"}
    report = own / "report.json"
    if not report.is_file() or report.stat().st_size > LARGEST_REPORT_BYTES:
        return {"error": f"reading it passed a limit of time, memory or behavior (status {ended.returncode})"}
    return json.loads(report.read_text(encoding="utf-8"))


def _checked(fresh: Path, shown: str) -> int:
    """Count the tensors of a file that a child wrote, whom nobody trusts after its reading."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(fresh, framework="np") as file:
            return len(file.keys())
    except (OSError, SafetensorError) as error:
        raise ValueError(f"source={shown} was not converted: {_one_line(error)}") from None


def _put_in_place(fresh: Path, target: Path) -> None:
    try:
        target.open("xb").close()  # takes the name, or fails if another process did
    except FileExistsError:
        _refuse_taken(target)
    os.replace(fresh, target)


def _refuse_taken(target: Path) -> None:
    if target.exists():
        raise ValueError(f"target={_one_line(target)} exists: choose another name, nothing is overwritten")


def _one_line(text: object) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


# From here on: the child process.


def flattened(content: Any, *, stem: str) -> tuple[dict[str, Any], list[str]]:
    """Give the tensors of nested dictionaries by dotted name, and what else there was as "name (type)".

    A checkpoint's "state_dict" hands its names up. A1111's embeddings ("string_to_param") become one tensor
    under the embedding's name, the form that A1111, ComfyUI and diffusers read.
    """
    import torch

    left_out: list[str] = []
    if isinstance(content, dict) and isinstance(content.get("string_to_param"), dict):
        beside = [(key, value) for key, value in content.items() if key != "string_to_param"]
        left_out += [f"{key} ({type(value).__name__})" for key, value in beside]
        name, vectors = content.get("name"), content["string_to_param"]
        said = isinstance(name, str) and name.isprintable() and name != ""
        if len(vectors) != 1:
            raise ValueError(f"it holds {len(vectors)} embeddings in one file")
        content = {name if said else stem: next(iter(vectors.values()))}
    elif isinstance(content, torch.Tensor):
        content = {stem: content}
    tensors: dict[str, Any] = {}

    def walk(value: Any, name: str, depth: int) -> None:
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            if name in tensors:
                raise ValueError(f"two tensors would be named {name!r}")
            tensors[name] = value.detach()
        elif isinstance(value, dict) and depth < DEEPEST_NESTING:
            for key, inner in value.items():
                top = depth == 0 and key == "state_dict" and isinstance(inner, dict)
                joined = "" if top else f"{name}.{key}" if name else str(key)
                if isinstance(key, str):
                    walk(inner, joined, depth + 1)
                else:
                    left_out.append(f"{joined} ({type(inner).__name__})")
        else:
            left_out.append(f"{name} ({type(value).__name__})")

    walk(content, "", 0)
    return tensors, left_out


def unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    """Give each tensor memory of its own, as safetensors wants: tied weights are written once per name."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        own[name] = tensor if whole and storage.data_ptr() not in seen else tensor.clone().contiguous()
        seen.add(storage.data_ptr())
    return own


class _StandIn:
    """Stands for classes in old trainers' checkpoints, which hold no tensors; does nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Stable Diffusion 1.4's own checkpoint holds these beside its "state_dict".
STAND_INS = [
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
]


def _limit(memory: int) -> None:
    import resource

    # CPU time, memory, size of a written file, dump of memory.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def _no_misbehavior() -> Iterator[None]:
    """End the process at an audit event that reading weights has no need of; a hook cannot be removed."""
    listening = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if listening and (writes or event.startswith(FORBIDDEN_EVENTS)):
            os._exit(3)  # no exception, which what is read could catch

    sys.addaudithook(hook)
    try:
        yield
    finally:
        listening = False


def _read(source: Path) -> Any:
    """Unpickle tensors and plain values; ValueError in few words for anything else."""
    import torch

    torch.serialization.add_safe_globals([(_StandIn, name) for name in STAND_INS])
    load = partial(torch.load, map_location="cpu", weights_only=True)  # noqa: TID251 (in this child only)
    warm = BytesIO()
    torch.save(torch.zeros(1), warm)
    load(BytesIO(warm.getvalue()))  # torch imports its last parts on first use, which the hook would forbid
    with _no_misbehavior():
        try:
            return load(source)
        except Exception as error:  # a damaged file raises whatever its bytes happen to mean
            wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
            if wanted is None:
                raise ValueError("it is damaged, or no pickle of tensors") from None
            raise ValueError(f"it wants to run {wanted[1]}, which is no part of weights") from None


def main(source: Path, memory: int) -> None:
    """Read `source`, write `fresh.safetensors` and `report.json` into the current folder."""
    _limit(memory)
    from safetensors.torch import save_file

    report: dict[str, Any]
    try:
        content = _read(source)
        tensors, left_out = flattened(content, stem=source.stem)
        if not tensors:
            raise ValueError("it holds no tensors")
        save_file(unshared(tensors), "fresh.safetensors", metadata={"format": "pt"})
        report = {"left_out": left_out}
    except (Exception, MemoryError) as error:
        report = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:300]}
    Path("report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
