"""A folder is checked before anything is built, identified by its content, and readable by older tools."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from ldm_pipeline import LatentDiffusionPipeline, folder
from tests import tiny
from tests.side_by_side import BETAS


@pytest.fixture
def copied(saved_folder, tmp_path):
    return shutil.copytree(saved_folder, tmp_path / "copy")


def change_index(place, **entries):
    path = place / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_good_folder_passes(saved_folder):
    folder.check_model_index(saved_folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "holds 'StableDiffusionXLPipeline'"),
        ({"_class_name": ["pipeline", "Mine"]}, "holds ['pipeline', 'Mine']"),
        ({"unet": ["my_code", "UNet2DConditionModel"]}, "wants unet to be"),
        ({"unet": ["diffusers", "FluxTransformer2DModel"]}, "allowed are diffusers.UNet2DConditionModel"),
        ({"scheduler": ["os", "system"]}, "wants scheduler to be ['os', 'system']"),
        ({"watermarker": ["diffusers", "AutoencoderKL"]}, "names a component 'watermarker'"),
        ({"vae": ["diffusers"]}, "wants vae to be ['diffusers']"),
    ],
)
def test_what_is_not_on_the_list_is_refused_before_it_is_built(copied, entries, words):
    change_index(copied, **entries)
    with pytest.raises(ValueError) as caught:
        LatentDiffusionPipeline.from_pretrained(copied)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def eps_folder(tmp_path_factory):
    return tiny.write_folder(tmp_path_factory.mktemp("tiny") / "eps", "epsilon")


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")  # numpy 2
@pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning")  # torchsde, rounding
@pytest.mark.parametrize("name", folder.SCHEDULER_NAMES)
def test_a_folder_with_any_scheduler_of_the_list_opens_and_draws(saved_folder, eps_folder, tmp_path, name):
    flow = name.startswith("FlowMatch")
    if name == "LMSDiscrete":
        pytest.importorskip("scipy")
    if name in ("CosineDPMSolverMultistep", "DPMSolverSDE"):
        pytest.importorskip("torchsde")
    place = shutil.copytree(saved_folder if flow else eps_folder, tmp_path / "copy")
    shutil.rmtree(place / "scheduler")
    cls = getattr(diffusers.schedulers, f"{name}Scheduler")
    known = inspect.signature(cls.__init__).parameters
    cls(**{key: value for key, value in BETAS.items() if key in known}).save_pretrained(place / "scheduler")
    change_index(place, scheduler=["diffusers", cls.__name__])
    pipe: Any = LatentDiffusionPipeline.from_pretrained(place)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.scheduler) is cls
    # DPMSolverSDE takes its noise from its config, and refuses a seed.
    drawn = pipe("paris", generator=torch.Generator("cpu").manual_seed(7), output_type="np").images
    assert np.isfinite(drawn).all() and drawn.std() > 0.01


def test_pickles_code_and_missing_folders_are_refused(copied):
    (copied / "unet" / "diffusion_pytorch_model.safetensors").rename(copied / "unet" / "model.bin")
    with pytest.raises(ValueError, match="holds model.bin but no safetensors"):
        LatentDiffusionPipeline.from_pretrained(copied)
    with pytest.raises(ValueError, match="run code from the folder"):
        LatentDiffusionPipeline.from_pretrained(copied, trust_remote_code=True)
    with pytest.raises(ValueError, match="use_safetensors=False"):
        LatentDiffusionPipeline.from_pretrained(copied, use_safetensors=False)
    with pytest.raises(ValueError, match="model_index.json is missing"):
        LatentDiffusionPipeline.from_pretrained(copied / "vae")
    with pytest.raises(ValueError, match="is no folder"):
        LatentDiffusionPipeline.from_pretrained(str(copied / "nothing" / "here"))


def test_a_bundled_model_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="there is no bundled model 'holiday_snaps'"):
        folder.bundled_folder("holiday_snaps")
    with pytest.raises(ValueError, match="no bundled model"):
        folder.bundled_folder("../models")


def test_a_lora_is_a_bundled_one_by_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "models" / "quick" / folder.LORA_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    monkeypatch.setattr(folder, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert folder.lora_path("quick") == file
    for other in ("slow", "quick/pytorch_lora_weights.safetensors", "../models/quick", "my.safetensors"):
        assert folder.lora_path(other) == Path(other)
    (tmp_path / "quick").write_bytes(b"")  # a file of one's own goes first
    assert folder.lora_path("quick") == Path("quick")


def test_a_lora_says_for_how_many_steps_it_was_made(tmp_path: Path):
    for number, (header, steps) in enumerate(
        [
            (None, None),
            ({"format": "pt"}, None),
            ({folder.FEW_STEPS_FACT: "4"}, 4),
            ({folder.FEW_STEPS_FACT: "0"}, None),
            ({folder.FEW_STEPS_FACT: "four"}, None),
            ({folder.FEW_STEPS_FACT: "9" * 5_000}, None),
        ]
    ):
        file = tmp_path / f"{number}.safetensors"
        save_file({"a": torch.zeros(1)}, file, metadata=header)
        assert folder.few_steps_of(file) == steps


def test_the_hash_depends_on_content_and_names_only(saved_folder, copied):
    before = folder.model_hash(copied)
    assert before == folder.model_hash(saved_folder) and len(before) == 64
    (copied / "README.md").write_text("a card")
    assert folder.model_hash(copied) == before
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = folder.model_hash(copied)
    assert changed != before
    (copied / "vae" / "config.json").rename(copied / "vae" / "config2.json")
    assert folder.model_hash(copied) not in (before, changed)


@torch.no_grad()
def test_old_text_encoder_keys_are_written_and_read_by_new_transformers(copied):
    weights = copied / "text_encoder" / "model.safetensors"
    ids = torch.tensor([[239, 218, 240, 240]])
    saved = load_file(weights)  # by a pipeline, hence with old names already
    save_file({key.removeprefix("text_model."): saved[key] for key in saved}, weights, {"format": "pt"})
    new = CLIPTextModel.from_pretrained(copied / "text_encoder")(ids).last_hidden_state
    before = load_file(weights)
    for _ in range(2):
        folder.write_old_text_encoder_keys(copied)
        after = load_file(weights)
        assert after.keys() == {f"text_model.{key}" for key in before}
        assert all(torch.equal(after[f"text_model.{key}"], before[key]) for key in before)
    old = CLIPTextModel.from_pretrained(copied / "text_encoder")(ids).last_hidden_state
    assert torch.equal(old, new)


def test_vocabulary_and_merges_alone_give_the_same_tokens(copied, tmp_path):
    folder.write_old_text_encoder_keys(copied)
    whole = CLIPTokenizer.from_pretrained(copied / "tokenizer")
    files = tmp_path / "old"
    files.mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(copied / "tokenizer" / name, files)
    for text in ("paris in the rain", "zebra!", ""):
        assert CLIPTokenizer.from_pretrained(files)(text).input_ids == whole(text).input_ids


def test_sharded_weights_and_their_index_are_renamed_together(copied):
    place = copied / "text_encoder"
    model = CLIPTextModel.from_pretrained(place)
    (place / "model.safetensors").unlink()
    model.save_pretrained(place, max_shard_size="50KB")
    folder.write_old_text_encoder_keys(copied)
    index = json.loads((place / "model.safetensors.index.json").read_text())["weight_map"]
    held = {key: path.name for path in place.glob("*.safetensors") for key in load_file(path)}
    assert len(set(held.values())) > 1 and held == index
    assert all(key.startswith("text_model.") for key in held)
