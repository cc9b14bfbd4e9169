"""Adapters: what is written opens in diffusers' pipeline and in ours, and computes what was trained."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from torch import Tensor

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny
from training.lora import KOHYA_WEIGHTS, WEIGHTS, LoraShape, add_lora, lora_tensors, write_lora

EVERYTHING = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
EVERYTHING += ("conv1", "conv2", "conv_in", "conv_out", "time_emb_proj")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(shape: LoraShape) -> tuple[Any, Any]:
    """UNet and text encoder whose adapters have weights that are seen."""
    unet, encoder = tiny.make_unet(), tiny.make_text_encoder(tiny.make_tokenizer())
    add_lora(unet, shape, targets=shape.targets, draws=draws())
    add_lora(encoder, shape, targets=shape.text_targets, draws=draws(1))
    noise = draws(2)
    with torch.no_grad():
        for network in (unet, encoder):
            for name, parameter in network.named_parameters():
                if "lora_" in name:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
    return unet, encoder


@torch.no_grad()
def outputs(unet: Any, encoder: Any) -> tuple[Tensor, Tensor]:
    ids = torch.arange(154).reshape(2, 77) % 90
    states = encoder(ids).last_hidden_state
    x_t = torch.randn(2, tiny.LATENT_CHANNELS, 8, 8, generator=draws(3))
    return states, unet(x_t, torch.tensor([10.0, 700.0]), states).sample


def opened(kind: type, folder: Path, file: str) -> Any:
    pipeline = kind(**tiny.make_components())
    pipeline.load_lora_weights(folder, weight_name=file, local_files_only=True)
    return pipeline


@pytest.mark.parametrize("kind", [StableDiffusionPipeline, LatentDiffusionPipeline])
@pytest.mark.parametrize("file", [WEIGHTS, KOHYA_WEIGHTS])
def test_both_files_open_in_both_pipelines_and_compute_the_same(tmp_path: Path, kind: type, file: str):
    shape = LoraShape(rank=2, alpha=3.0, targets=EVERYTHING)
    unet, encoder = trained(shape)
    write_lora(tmp_path, shape=shape, unet=unet, text_encoder=encoder, facts={"made_for": "tests"})
    with safe_open(tmp_path / file, framework="pt") as written:
        assert written.metadata()["made_for"] == "tests"
    plain = outputs(tiny.make_unet(), tiny.make_text_encoder(tiny.make_tokenizer()))
    wanted, pipeline = outputs(unet, encoder), opened(kind, tmp_path, file)
    found = outputs(pipeline.unet, pipeline.text_encoder)
    for a, b, c in zip(wanted, found, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert float((a - c).abs().max()) > 0.01


def test_a_dora_opens_and_is_not_written_for_those_who_would_leave_half_of_it_out(tmp_path: Path):
    shape = LoraShape(rank=2, alpha=2.0, dora=True)
    unet, encoder = trained(shape)
    written = write_lora(tmp_path, shape=shape, unet=unet, text_encoder=encoder, facts={})
    assert [path.name for path in written] == [WEIGHTS]
    pipeline = opened(StableDiffusionPipeline, tmp_path, WEIGHTS)
    for a, b in zip(outputs(unet, encoder), outputs(pipeline.unet, pipeline.text_encoder), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_new_adapter_changes_nothing_and_is_a_function_of_its_draws():
    plain = tiny.make_unet()
    before = outputs(plain, tiny.make_text_encoder(tiny.make_tokenizer()))[1]
    weights = []
    for seed in (4, 4, 5):
        unet = tiny.make_unet()
        state = torch.random.get_rng_state()
        add_lora(unet, LoraShape(rank=2), targets=("to_q", "conv1"), draws=draws(seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        after = outputs(unet, tiny.make_text_encoder(tiny.make_tokenizer()))[1]
        torch.testing.assert_close(before, after)
        assert all(p.requires_grad == ("lora_" in name) for name, p in unet.named_parameters())
        weights.append(torch.cat([value.flatten() for value in lora_tensors(unet).values()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"rank": 0}, "lora.rank=0: must be at least 1"),
        ({"alpha": 0.0}, "lora.alpha=0.0: must be above 0"),
        ({"targets": ()}, "lora.targets= is empty"),
    ],
)
def test_shapes_that_learn_nothing_are_refused(wrong: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        LoraShape(**wrong)


def test_a_target_that_no_layer_has_is_refused_by_name():
    with pytest.raises(ValueError, match="lora.targets=to_z: no layer .* there are .*to_q"):
        add_lora(tiny.make_unet(), LoraShape(), targets=("to_q", "to_z"), draws=draws())
