"""Pickles of tensors become safetensors in a process of their own; what wants to run something does not.

Each conversion starts a process that imports torch, so there are few of them here.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ldm_pipeline import cli, convert
from tests import tiny


class RunsSomething:
    """Unpickles as a call of `os.system`."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_checkpoint_becomes_tensors_and_the_rest_is_named(tmp_path: Path, capsys):
    weight = torch.arange(12.0).reshape(3, 4)
    content = {
        "state_dict": {"a.weight": weight, "tied": weight, "row": weight[1:2], "half": weight.half()},
        "ema": {"a.weight": weight + 1},
        "epoch": 3,
        "optimizers": [{"lr": 0.1, "m": weight}],
        7: weight,
    }
    source, target = tmp_path / "model.ckpt", tmp_path / "model.safetensors"
    torch.save(content, source)
    assert cli.main(["convert", str(source), str(target)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == str(target)
    assert shown[1:] == ["left out: epoch (int)", "left out: optimizers (list)", "left out: 7 (Tensor)"]
    found = load_file(target)
    assert found.keys() == {"a.weight", "tied", "row", "half", "ema.a.weight"}
    assert torch.equal(found["tied"], weight) and torch.equal(found["row"], weight[1:2])
    assert found["half"].dtype == torch.float16 and torch.equal(found["ema.a.weight"], weight + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt", "model.safetensors"]
    before = target.read_bytes()
    assert cli.main(["convert", str(source), str(target)]) == 2
    assert "exists: choose another name" in capsys.readouterr().err and target.read_bytes() == before


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path: Path, old: bool):
    source, mark = tmp_path / "model.ckpt", tmp_path / "ran"
    hostile = {"state_dict": {"w": torch.zeros(2)}, "x": RunsSomething(f"touch {mark}")}
    torch.save(hostile, source, _use_new_zipfile_serialization=not old)
    pickle.loads(pickle.dumps(RunsSomething(f"touch {mark}")))
    assert mark.exists(), "this pickle would have shown nothing"
    mark.unlink()
    with pytest.raises(ValueError) as caught:
        convert.convert(source, tmp_path / "out.safetensors")
    assert "it wants to run posix.system" in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_tensor_that_would_fill_the_memory_is_refused(tmp_path: Path):
    torch.save({"w": torch.zeros(1).expand(10**7, 10**6)}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match="was not converted: .*memory"):
        convert.convert(tmp_path / "bomb.pt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.pt"]


def test_a_converted_embedding_is_learned_by_the_pipeline(tmp_path: Path):
    vectors = torch.randn(2, 32, generator=torch.Generator("cpu").manual_seed(8))
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "<tabby>", "step": 9}
    torch.save(content, tmp_path / "tabby.pt")
    done = convert.convert(tmp_path / "tabby.pt", tmp_path / "tabby.safetensors")
    assert (done.tensors, done.left_out) == (1, ("string_to_token (dict)", "name (str)", "step (int)"))
    pipe = tiny.make_pipeline()
    settings = {"num_inference_steps": 2, "seed": 1, "output_type": "np"}
    before = pipe("a <tabby>", **settings).images
    pipe.load_textual_inversion(tmp_path / "tabby.safetensors")
    assert len(pipe.tokenizer) == len(tiny.make_tokenizer()) + 2
    assert np.abs(pipe("a <tabby>", **settings).images - before).max() > 1e-3


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("none.ckpt", "out.safetensors", "source=.*none.ckpt is not a file"),
        ("notes.txt", "out.safetensors", "convert reads .ckpt, .bin, .pt, .pth"),
        ("model.ckpt", "out.bin", "use a name that ends in .safetensors"),
        ("model.ckpt", "taken.safetensors", "exists: choose another name"),
        ("model.ckpt", "no/where.safetensors", "lies in no folder: make"),
    ],
)
def test_what_cannot_be_converted_is_one_line_before_anything_is_read(tmp_path, source, target, words):
    for name in ("model.ckpt", "notes.txt", "taken.safetensors"):
        (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(ValueError, match=words):
        convert.convert(tmp_path / source, tmp_path / target)
    assert (tmp_path / "taken.safetensors").read_bytes() == b"kept"


def test_names_are_joined_by_dots_and_never_collide():
    tensor = torch.zeros(1)
    tensors, left_out = convert.flattened({"a": {"b": {"c": tensor}}, "d": tensor, "e": "text"}, stem="file")
    assert list(tensors) == ["a.b.c", "d"] and left_out == ["e (str)"]
    assert list(convert.flattened(tensor, stem="file")[0]) == ["file"]
    assert list(convert.flattened({"state_dict": {"state_dict": {"x": tensor}}}, stem="f")[0]) == [
        "state_dict.x"
    ]
    with pytest.raises(ValueError, match="two tensors would be named 'a.b'"):
        convert.flattened({"a.b": tensor, "a": {"b": tensor}}, stem="file")
    endless: dict[str, Any] = {}
    endless["self"] = endless
    assert convert.flattened(endless, stem="file")[0] == {}
