"""One original-format file opens without a network and draws what its parts draw; others are told apart."""

# pyright: reportPrivateImportUsage=false

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from ldm_pipeline import LatentDiffusionPipeline, load_pipeline, single_file
from tests import tiny
from tests.original_format import original_weights

TINY = {"num_inference_steps": 2, "output_type": "np", "seed": 5}


def tiny_pipe(in_channels: int = 4) -> Any:
    """Stable Diffusion's shape of UNet and VAE, with attention in the VAE's middle, at a tiny size."""
    parts = tiny.make_components("epsilon")
    unet, vae = dict(parts["unet"].config), dict(parts["vae"].config)
    unet |= {
        "in_channels": in_channels,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    vae |= {"latent_channels": 4, "mid_block_add_attention": True}
    networks: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_config(unet),
        "vae": AutoencoderKL.from_config(vae),
    }
    for seed, network in enumerate(networks.values()):
        tiny.randomize(network.eval(), seed)
    parts |= networks
    return quiet(LatentDiffusionPipeline(**parts))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_header(file: Path, shapes: dict[str, list[int]]) -> Path:
    """Write a file of these shapes whose numbers are a hole in the file system, and take no space."""
    start, header = 0, {}
    for name, shape in shapes.items():
        end = start + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    with file.open("r+b") as opened:
        opened.truncate(8 + len(text) + start)
    return file


def shapes_of(*, inputs: int = 4, width: int = 768, channels: int = 320) -> dict[str, list[int]]:
    root = "model.diffusion_model.input_blocks"
    table = single_file.TOKEN_TABLES[int(width == 1024)]
    return {
        f"{root}.0.0.weight": [channels, inputs, 3, 3],
        f"{root}.1.1.transformer_blocks.0.attn2.to_k.weight": [channels, width],
        table: [49408, width],
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    """A tiny pipeline, its original-format file, and a config folder without weights."""
    place = tmp_path_factory.mktemp("original")
    pipe = tiny_pipe()
    file, config = place / "tiny.safetensors", place / "config"
    save_file(original_weights(pipe), file)
    pipe.save_pretrained(config)
    for weights in config.rglob("*.safetensors"):
        weights.unlink()
    return pipe, file, config


def test_a_file_with_a_config_folder_draws_the_pictures_of_its_parts(checkpoint):
    pipe, file, config = checkpoint
    opened = quiet(LatentDiffusionPipeline.from_single_file(file, config=config))
    assert opened.unet.dtype == opened.vae.dtype == opened.text_encoder.dtype == torch.float32
    assert np.abs(opened("a red car", **TINY).images - pipe("a red car", **TINY).images).max() < 1e-6
    assert opened.name_or_path == str(file)
    assert LatentDiffusionPipeline.from_single_file(file, config=config, dtype=torch.bfloat16).unet.dtype == (
        torch.bfloat16
    )


def test_a_config_folder_of_another_shape_is_refused_before_it_is_built(checkpoint, tmp_path):
    _, file, config = checkpoint
    other = shutil.copytree(config, tmp_path / "other")
    path = other / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 9}))
    with pytest.raises(ValueError, match="a UNet with in_channels 9, but .* has 4: give the folder"):
        LatentDiffusionPipeline.from_single_file(file, config=other)
    index = other / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "unet": ["my_code", "Mine"]}))
    with pytest.raises(ValueError, match="wants unet to be"):
        LatentDiffusionPipeline.from_single_file(file, config=other)


@pytest.mark.parametrize(
    ("shapes", "arguments", "words"),
    [
        (shapes_of(channels=64), {}, "neither Stable Diffusion 1.x nor 2.x: give config=FOLDER"),
        (shapes_of(width=1024), {}, "give prediction_type='v_prediction' "),
        (shapes_of(inputs=8), {}, "a UNet with 8 inputs: 4 and 9 can be run"),
        (shapes_of(), {"prediction_type": "velocity"}, "prediction_type='velocity' is unknown"),
        (shapes_of(), {"config": "./nowhere"}, "config=./nowhere is no folder"),
        (shapes_of(), {"config": "a", "prediction_type": "epsilon"}, "were both given"),
        (shapes_of(), {"original_config": "v1.yaml"}, "give config=FOLDER"),
        ({"conditioner.embedders.0.x": [2]}, {}, "is Stable Diffusion XL"),
        ({"lora_unet_x.alpha": [1]}, {}, "is a LoRA"),
        ({"w": [2]}, {}, "holds no UNet"),
    ],
)
def test_what_cannot_be_opened_is_one_line_before_anything_is_built(tmp_path, shapes, arguments, words):
    file = write_header(tmp_path / "file.safetensors", shapes)
    with pytest.raises(ValueError) as caught:
        LatentDiffusionPipeline.from_single_file(file, **arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_missing_and_damaged_files_are_refused(tmp_path):
    for name, words in (("model.ckpt", "run `ldm convert"), ("none.safetensors", "is not a file")):
        if name.endswith("ckpt"):
            (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ValueError, match=words):
            LatentDiffusionPipeline.from_single_file(tmp_path / name)
    (tmp_path / "torn.safetensors").write_bytes(struct.pack("<Q", 999) + b'{"a"')
    with pytest.raises(ValueError, match="weights that cannot be read"):
        load_pipeline(tmp_path / "torn.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("shapes", "prediction", "expected"),
    [
        (shapes_of(), None, ("PNDMScheduler", "epsilon", 8, 64, 768)),
        (shapes_of(inputs=9), None, ("PNDMScheduler", "epsilon", 8, 64, 768)),
        (shapes_of(width=1024), "v_prediction", ("DDIMScheduler", "v_prediction", [5, 10, 20, 20], 96, 1024)),
        (shapes_of(width=1024, inputs=9), None, ("PNDMScheduler", "epsilon", [5, 10, 20, 20], 64, 1024)),
    ],
)
def test_stable_diffusions_own_settings_are_told_from_shapes(tmp_path, shapes, prediction, expected):
    facts = single_file.read_facts(write_header(tmp_path / "file.safetensors", shapes))
    assert facts.tokens == 49408
    folder = tmp_path / "config"
    folder.mkdir()
    single_file.write_config_folder(facts, folder, prediction_type=prediction)
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    unet = json.loads((folder / "unet" / "config.json").read_text())
    text = json.loads((folder / "text_encoder" / "config.json").read_text())
    told = (scheduler["_class_name"], scheduler["prediction_type"], unet["attention_head_dim"])
    assert (*told, unet["sample_size"], text["hidden_size"]) == expected
    assert unet["in_channels"] == facts.in_channels
    single_file.check_fit(facts, folder)


def test_clips_tokenizer_is_made_from_open_clips_words(tmp_path):
    facts = single_file.read_facts(write_header(tmp_path / "file.safetensors", shapes_of()))
    tokenizer = single_file.clip_tokenizer(facts, local_files_only=True)
    from open_clip import tokenize

    texts = ["a photo of an astronaut riding a horse", "Zürich, 1999!", ""]
    rows = tokenize(texts)
    for text, row in zip(texts, rows.tolist(), strict=True):
        ids = tokenizer(text).input_ids
        assert ids == row[: len(ids)] and len(tokenizer) == 49408
        assert tokenizer(text, padding="max_length").input_ids[len(ids) :] == [49407] * (77 - len(ids))


def test_without_any_tokenizer_the_remedy_is_told(tmp_path, monkeypatch):
    facts = single_file.read_facts(write_header(tmp_path / "file.safetensors", shapes_of()))
    monkeypatch.setattr(single_file, "open_clip_words", lambda: None)  # as where it is not installed
    with pytest.raises(
        ValueError, match="pip install open-clip-torch, pass tokenizer=, or give config=FOLDER"
    ):
        single_file.clip_tokenizer(facts, local_files_only=True, cache_dir=str(tmp_path))


@pytest.mark.slow
def test_a_whole_stable_diffusion_1_5_opens_as_a_folder_and_as_a_file(tmp_path):
    pipe = whole_pipe()
    file, folder = tmp_path / "v1-5.safetensors", tmp_path / "v1-5"
    save_file(original_weights(pipe), file)
    pipe.save_pretrained(folder, variant="fp16")
    del pipe
    drawn = []
    for opened in (
        lambda: LatentDiffusionPipeline.from_pretrained(folder, variant="fp16", dtype=torch.bfloat16),
        lambda: LatentDiffusionPipeline.from_single_file(file, dtype=torch.bfloat16),
    ):
        pipe = quiet(opened())
        assert sum(weight.numel() for weight in pipe.unet.parameters()) == 859_520_964
        # The file's scheduler is told from its shapes; the folder's is the test's own.
        pipe.scheduler = PNDMScheduler.from_config(tiny.make_scheduler("epsilon").config, skip_prk_steps=True)
        assert sum(weight.numel() for weight in pipe.text_encoder.parameters()) == 123_060_480
        drawn.append(
            pipe("a cat", seed=1, height=64, width=64, num_inference_steps=1, output_type="np").images
        )
        del pipe
    assert np.isfinite(drawn[0]).all() and np.array_equal(drawn[0], drawn[1])


def whole_pipe() -> LatentDiffusionPipeline:
    """Stable Diffusion 1.5's shapes in fp16, of repeated numbers: drawing a billion takes a minute."""
    facts = single_file.SingleFileFacts(
        file=Path("v1-5"), in_channels=4, channels=320, text_width=768, tokens=49408
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(single_file._unet(facts, second=False, large=False))
        vae = AutoencoderKL.from_config(single_file.VAE)
        text_encoder = CLIPTextModel(CLIPTextConfig(**single_file.TEXT_ENCODERS[False]))
    drawn = torch.randn(2**16, generator=torch.Generator("cpu").manual_seed(1)).half() * 0.02
    for network in (unet, vae, text_encoder):
        network.half().to_empty(device="cpu")  # pyright: ignore
        for name, values in network.state_dict().items():  # pyright: ignore
            repeated = drawn.repeat(-(-values.numel() // len(drawn)))[: values.numel()]
            values.copy_(repeated.reshape(values.shape) + float(values.ndim == 1 and name.endswith("weight")))
    text_encoder.get_submodule("embeddings").register_buffer(
        "position_ids", torch.arange(77)[None], persistent=False
    )
    parts = {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "scheduler": tiny.make_scheduler("epsilon"),
    }
    return LatentDiffusionPipeline(tokenizer=single_file.clip_tokenizer(facts), **parts)  # pyright: ignore
