"""Pipeline folders made to harm: each ends in one line, before anything of it is built or run.

Code in a folder would leave a mark if it ran; no test opens a pickle.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny

UNET = "unet/diffusion_pytorch_model.safetensors"
MARK = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that opens; read only."""
    return tiny.write_folder(tmp_path_factory.mktemp("good") / "tiny")


@pytest.fixture
def copied(good: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return shutil.copytree(good, tmp_path / "copy")


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    "entries",
    [
        {"_class_name": ["pipeline", "X"]},
        {"_class_name": "X\nERROR: all is well"},
        {"_class_name": None},
        {"unet": ["antigravity", "UNet2DConditionModel"]},
        {"unet": ["../unet/evil", "UNet2DConditionModel"]},
        {"unet": ["/elsewhere/evil", "UNet2DConditionModel"]},
        {"unet": ["diffusers_modules.local.evil", "Evil"]},
        {"unet": ["diffusers", "UNet2DConditionModel", "more"]},
        {"unet": {"_class_name": "UNet2DConditionModel"}},
        {"unet": "diffusers.UNet2DConditionModel"},
        {"unet": [["diffusers"], "UNet2DConditionModel"]},
        {"safety_checker": ["transformers", "AutoModel"]},
        {"../../evil": ["diffusers", "AutoencoderKL"]},
        {"evil\nname": ["diffusers", "AutoencoderKL"]},
        {"extra": {"a": 1}},
    ],
    ids=str,
)
def test_foreign_names_are_refused(copied: Path, entries: dict[str, Any]):
    (copied / "unet" / "evil.py").write_text(MARK)
    (copied / "pipeline.py").write_text(MARK)
    change(copied / "model_index.json", **entries)
    for given in ({}, {"unet": None}):
        with pytest.raises(ValueError) as caught:
            LatentDiffusionPipeline.from_pretrained(copied, **given)
        assert "\n" not in str(caught.value)
    assert not list(copied.rglob("*.ran"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def hostile_index(value: str) -> Callable[[Path], Any]:
    index = {"metadata": {}, "weight_map": {"conv_in.weight": value}}
    return lambda folder: (folder / f"{UNET}.index.json").write_text(json.dumps(index))


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut weights": (lambda folder: cut(folder / UNET), "weights that cannot be read"),
    "header longer than the file": (
        lambda folder: (folder / UNET).write_bytes(struct.pack("<Q", 2**60) + b"{}"),
        "weights that cannot be read",
    ),
    "header of nonsense": (
        lambda folder: (folder / UNET).write_bytes(struct.pack("<Q", 8) + b"not json"),
        "weights that cannot be read",
    ),
    "empty weights": (lambda folder: (folder / UNET).write_bytes(b""), "weights that cannot be read"),
    "a pickle under another name": (
        lambda folder: (folder / UNET).write_bytes(b"\x80\x04cposix\nsystem\n."),
        "weights that cannot be read",
    ),
    "pickles only": (
        lambda folder: (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin"),
        "diffusion_pytorch_model.safetensors` first",
    ),
    "pickles only, transformers": (
        lambda folder: (folder / "text_encoder/model.safetensors").rename(
            folder / "text_encoder/pytorch_model.bin"
        ),
        "text_encoder/model.safetensors` first",
    ),
    "shards above": (hostile_index("../../secret.safetensors"), "names '../../secret.safetensors'"),
    "shards elsewhere": (hostile_index("/etc/passwd"), "names '/etc/passwd'"),
    "shards that are pickles": (hostile_index("model.bin"), "names 'model.bin'"),
    "shards with a line break": (hostile_index("a\nb.safetensors"), r"names 'a\nb.safetensors'"),
    "shards of no kind": (
        lambda folder: (folder / f"{UNET}.index.json").write_text('{"weight_map": [1]}'),
        "names ''",
    ),
    "a huge list of components": (
        lambda folder: (folder / "model_index.json").write_text('{"a": "' + "x" * 2**24 + '"}'),
        "has over",
    ),
    "a huge description": (
        lambda folder: (folder / "unet/config.json").write_text("[" + "1," * 2**23 + "1]"),
        "has over",
    ),
    "a deep description": (
        lambda folder: (folder / "unet/config.json").write_text("[" * 10**5),
        "cannot be read as JSON",
    ),
    "a description of another kind": (
        lambda folder: (folder / "vae/config.json").write_text("[]"),
        "holds a list",
    ),
    "a missing component": (lambda folder: shutil.rmtree(folder / "vae"), "vae is missing"),
    "a missing description": (lambda folder: (folder / "vae/config.json").unlink(), "cannot be opened"),
    "other shapes": (
        lambda folder: change(folder / "unet/config.json", block_out_channels=[16, 16]),
        "cannot be opened",
    ),
    "settings of another kind": (
        lambda folder: change(folder / "unet/config.json", block_out_channels="wide"),
        "cannot be opened",
    ),
    "a model type of another kind": (
        lambda folder: change(folder / "text_encoder/config.json", hidden_size="wide"),
        "cannot be opened",
    ),
}


@pytest.mark.parametrize("name", HARM)
def test_a_harmful_file_ends_in_one_line(copied: Path, name: str):
    harm, words = HARM[name]
    harm(copied)
    with pytest.raises(ValueError) as caught:
        LatentDiffusionPipeline.from_pretrained(copied)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_with_a_line_break_in_its_name_is_told_in_one_line(copied: Path):
    odd = copied.rename(copied.with_name("odd\nERROR: all is well"))
    assert LatentDiffusionPipeline.from_pretrained(odd).unet is not None
    cut(odd / UNET)
    with pytest.raises(ValueError, match=r"odd\\nERROR") as caught:
        LatentDiffusionPipeline.from_pretrained(odd)
    assert "\n" not in str(caught.value)


def test_code_that_a_components_settings_name_is_not_run(copied: Path):
    for name in ("text_encoder", "tokenizer", "unet"):
        (copied / name / "evil.py").write_text(MARK)
    for path in ("text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        change(copied / path, auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]})
    change(copied / "unet/config.json", _class_name=["evil", "Evil"])
    change(copied / "scheduler/scheduler_config.json", _class_name="Evil")
    try:
        pipe = LatentDiffusionPipeline.from_pretrained(copied)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert type(pipe.unet).__name__ == "UNet2DConditionModel"
    assert not list(copied.rglob("*.ran"))


def test_a_component_that_is_given_need_not_lie_in_the_folder(copied: Path):
    shutil.rmtree(copied / "unet")
    assert LatentDiffusionPipeline.from_pretrained(copied, unet=tiny.make_unet()).unet is not None
