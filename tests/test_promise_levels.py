"""The same picture whatever stands beside it, bit for bit: batch size, order, position, pictures per prompt.

Knows nothing of processes, threads and instruction sets (test_promise_processes), nor of what a seed means
(test_promise_seeds).
"""

# pyright: reportPrivateImportUsage=false

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.folder import MODELS
from ldm_pipeline.noise import generators_for
from ldm_pipeline.schedulers import make_scheduler
from tests import tiny
from tests.ldm_pipeline import test_ip_adapter
from tests.side_by_side import BETAS, mask, picture
from tests.test_promise_seeds import KINDS as EVERY
from tests.test_promise_seeds import scheduler as any_scheduler

LONG = ", ".join(["a red car in london"] * 20)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]
bundled_only = pytest.mark.skipif(
    not (MODELS / "postcards" / "model_index.json").is_file(), reason="no bundled model here"
)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def eps_parts() -> dict[str, Any]:
    return tiny.make_stable_diffusion_components()


@pytest.fixture(scope="module")
def flow_pipe() -> Any:
    return tiny.make_pipeline()


SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "dpm++ 2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler a": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
}
STARTS: dict[str, dict[str, Any]] = {
    "noise": {"height": 72, "width": 56},
    "picture": {"image": picture(72, 57), "strength": 0.7},
    "mask": {"image": picture(72, 57), "mask_image": mask(72, 57), "blend": "feather"},
}
"""57 pixels are padded to 64; neither pixels nor latents of these pictures are a multiple of 16 numbers."""


def eps_pipe(parts: dict[str, Any], name: str) -> Any:
    return quiet(LatentDiffusionPipeline(**{**parts, "scheduler": SCHEDULERS[name](**BETAS)}))


def drawn(pipe: Any, prompt: Any, **settings: Any) -> Tensor:
    plain: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "pt"}
    found = pipe(prompt, **{**plain, **settings}).images
    return found if isinstance(found, Tensor) else torch.as_tensor(found)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_batch_order_position_and_count_change_no_bit(eps_parts, name, start):
    pipe, settings = eps_pipe(eps_parts, name), STARTS[start]
    three = drawn(pipe, ["paris", "london in the rain", "a cat"], seed=[7, 3, 9], **settings)
    turned = drawn(pipe, ["a cat", "paris"], seed=[9, 7], **settings)
    alone = drawn(pipe, "london in the rain", seed=3, **settings)
    counted = drawn(pipe, "paris", seed=6, num_images_per_prompt=2, **settings)
    listed = drawn(pipe, ["paris", "a cat"], generator=generators_for([7, 9]), negative_prompt="", **settings)
    assert torch.equal(three[0], turned[1]) and torch.equal(three[2], turned[0])
    assert torch.equal(three[1], alone[0])
    assert torch.equal(three[0], counted[1])
    assert torch.equal(listed[0], three[0]) and torch.equal(listed[1], three[2])
    again = drawn(pipe, ["paris", "london in the rain", "a cat"], seed=[7, 3, 9], **settings)
    assert torch.equal(three, again)
    assert (three[0] - three[1]).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning")
@pytest.mark.parametrize("name", [name for name in EVERY if name != "DPMSolverSDE"])
def test_every_scheduler_keeps_the_bits(eps_parts, name):
    pipe = quiet(LatentDiffusionPipeline(**{**eps_parts, "scheduler": any_scheduler(name)}))
    settings: dict[str, Any] = {**STARTS["picture"], "num_inference_steps": 4, "eta": 0.5}
    both = drawn(pipe, ["paris", "a cat"], seed=7, **settings)
    assert torch.equal(both[1:], drawn(pipe, "a cat", seed=8, **settings))


@pytest.mark.parametrize(("name", "size"), [("unipc", 520), ("euler a", 568)])
def test_odd_sizes_change_no_bit(eps_parts, name, size):
    assert size // 8 % 2 == 1
    pipe = eps_pipe(eps_parts, name)
    settings: dict[str, Any] = {"height": size, "width": size, "num_inference_steps": 2}
    both = drawn(pipe, "paris", seed=7, num_images_per_prompt=2, **settings)
    for i in range(2):
        assert torch.equal(both[i : i + 1], drawn(pipe, "paris", seed=7 + i, **settings)), f"picture {i}"


ROWS: dict[str, dict[str, Any]] = {
    "regions of other lengths": {
        "prompts": ["paris", LONG, "a cat"],
        "regions": [("a red car", (0.0, 0.5, 0.5, 1.0))],
        "negative_prompt": ["", "rain", ["night", "city"]],
    },
    "a long region": {
        "prompts": ["paris", LONG],
        "regions": [(LONG, (0.0, 0.0, 1.0, 0.5))],
        "negative_prompt": ["rain", ["night", LONG]],
    },
    "chunks under a guider": {
        "prompts": ["paris", LONG],
        "guider": diffusers.guiders.AdaptiveProjectedGuidance(
            4.0, adaptive_projected_guidance_momentum=-0.5, use_original_formulation=True
        ),
    },
    "chunks under a guider that skips layers, cached": {
        "prompts": ["paris", LONG, "a cat"],
        "step_cache_interval": 2,
        "guider": diffusers.guiders.SkipLayerGuidance(
            4.0,
            skip_layer_guidance_start=0.0,
            skip_layer_guidance_stop=0.8,
            skip_layer_config=diffusers.hooks.LayerSkipConfig(
                fqn="mid_block.attentions.0.transformer_blocks", indices=[0]
            ),
        ),
    },
    "regions under a guider": {
        "prompts": ["paris", LONG],
        "regions": [("a red car", (0.0, 0.5, 0.5, 1.0))],
        "guider": diffusers.guiders.TangentialClassifierFreeGuidance(4.0),
    },
    "weighted sums of other lengths": {
        "prompts": ["paris", [(LONG, 0.8), ("a cat", 0.4)], [("a dog", 1.0), (LONG, 0.5)]],
        "negative_prompt": [["rain", LONG], "", "night"],
        "negative_start": 0.5,
    },
    "weights": {"prompts": ["(paris:1.3) at night", f"a {LONG}", "[a cat]"], "prompt_syntax": "a1111"},
}


@pytest.mark.filterwarnings("ignore:this model was never trained")
@pytest.mark.parametrize("case", ROWS)
def test_texts_of_other_lengths_beside_each_other_change_no_bit(flow_pipe, case):
    settings = {"long_prompt": "chunk", "num_inference_steps": 4, **ROWS[case]}
    prompts = settings.pop("prompts")
    if "guider" not in settings:
        settings["guidance_scale"] = 4.0
    negatives = settings.pop("negative_prompt", None)

    def draw(rows: list[int]) -> Tensor:
        own = {} if negatives is None else {"negative_prompt": [negatives[i] for i in rows]}
        texts, seeds = [prompts[i] for i in rows], [7 + i for i in rows]
        return flow_pipe(texts, seed=seeds, output_type="pt", **settings, **own).images

    together = draw([*range(len(prompts))])
    for i in range(len(prompts)):
        assert torch.equal(together[i : i + 1], draw([i])), f"picture {i}"
    assert torch.equal(together.flip(0), draw([*reversed(range(len(prompts)))]))


def test_a_gray_mask_changes_no_bit_of_a_black_and_white_neighbor(flow_pipe):
    gray = Image.fromarray((np.asarray(mask(96, 88)) // 2).astype(np.uint8))
    settings: dict[str, Any] = {"image": picture(96, 88), "padding_mask_crop": 4, "height": 64, "width": 64}
    both = drawn(flow_pipe, ["paris"] * 2, seed=[7, 8], mask_image=[mask(96, 88), gray], **settings)
    assert torch.equal(both[:1], drawn(flow_pipe, "paris", seed=7, mask_image=mask(96, 88), **settings))
    assert torch.equal(both[1:], drawn(flow_pipe, "paris", seed=8, mask_image=gray, **settings))


def test_pictures_to_read_change_no_bit_of_a_neighbor():
    pipe = test_ip_adapter.ours(test_ip_adapter.make_rival(False, True))
    images = [test_ip_adapter.picture(1), [test_ip_adapter.picture(2), test_ip_adapter.picture(3)]]
    settings: dict[str, Any] = {"ip_adapter_image": images, "negative_prompt": "rain"}
    both = drawn(pipe, ["paris", "a cat"], seed=7, **settings)
    assert torch.equal(both[1:], drawn(pipe, "a cat", seed=8, **settings))
    rows = pipe.prepare_ip_adapter_image_embeds(images, None, torch.device("cpu"), 2, True)
    for one in rows:
        one[1::2] *= 0.5  # the second picture reads other embeddings, in both branches
    own = drawn(pipe, ["paris", "a cat"], seed=7, ip_adapter_image_embeds=rows)
    second = [one[1::2] for one in rows]
    assert torch.equal(own[1:], drawn(pipe, "a cat", seed=8, ip_adapter_image_embeds=second))


@pytest.mark.parametrize("kind", ["latent", "np", "pt", "pil"])
def test_any_kind_of_output_keeps_the_bits(flow_pipe, kind):
    def draw(**settings: Any) -> np.ndarray:
        found = flow_pipe("paris", num_inference_steps=2, output_type=kind, **settings).images
        return np.stack([np.asarray(one) for one in found])

    assert np.array_equal(draw(seed=7, num_images_per_prompt=2)[1:], draw(seed=8))


def test_a_callback_that_changes_latents_sees_and_leaves_the_same_bits(flow_pipe):
    seen: list[Tensor] = []

    def halve(_: Any, step: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(tensors["latents"].clone())
        return {"latents": tensors["latents"] * (0.5 if step == 0 else 1.0)}

    both = drawn(flow_pipe, ["paris", "a cat"], seed=7, callback_on_step_end=halve)
    alone = drawn(flow_pipe, "a cat", seed=8, callback_on_step_end=halve)
    assert torch.equal(both[1:], alone)
    assert all(torch.equal(one[1:], other) for one, other in zip(seen[:2], seen[2:], strict=True))


def test_half_precision_keeps_the_bits(eps_parts):
    typed: dict[str, Any] = tiny.make_stable_diffusion_components()
    for name in ("unet", "vae", "text_encoder"):
        typed[name].to(torch.bfloat16)
    pipe = eps_pipe(typed, "euler a")
    for start, settings in STARTS.items():
        both = drawn(pipe, ["paris", "a cat"], seed=7, **settings)
        assert torch.equal(both[1:], drawn(pipe, "a cat", seed=8, **settings)), start


# The bundled model: a few steps of each scheduler that runs it


@pytest.fixture(scope="module")
def bundled() -> Any:
    return quiet(LatentDiffusionPipeline.from_pretrained(dtype=torch.float32))


@bundled_only
@pytest.mark.parametrize("name", ["dpm++", "unipc", "euler"])
def test_the_bundled_model_draws_the_same_bits_alone_and_beside_others(bundled, name):
    scheduler = make_scheduler(name, bundled.scheduler, flow=True)
    pipe = quiet(LatentDiffusionPipeline.from_pipe(bundled, scheduler=scheduler))
    call: dict[str, Any] = {"num_inference_steps": 3, "output_type": "pt", "negative_prompt": "umbrella"}
    both = pipe(["Paris on a rainy day", "Tokyo at night"], seed=[7, 3], **call).images
    assert torch.equal(both[1:], pipe("Tokyo at night", seed=3, **call).images)


@pytest.mark.slow
@bundled_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("start", ["noise", "picture", "mask"])
@pytest.mark.parametrize("name", ["dpm++", "unipc", "euler"])
def test_the_bundled_model_keeps_its_bits_in_whole_runs(bundled, name, start, dtype):
    pipe = quiet(LatentDiffusionPipeline.from_pretrained(dtype=dtype))
    pipe.scheduler = make_scheduler(name, bundled.scheduler, flow=True)
    given: dict[str, Any] = {} if start == "noise" else {"image": picture(128, 120)}
    if start == "mask":
        given["mask_image"] = mask(128, 120)
    call: dict[str, Any] = {"output_type": "pt", "negative_prompt": "umbrella", **given}
    prompts = ["Paris on a rainy day", "Tokyo at night", "Cairo at sunset"]
    three = pipe(prompts, seed=[7, 3, 5], **call).images
    for i, seed in enumerate((7, 3, 5)):
        assert torch.equal(three[i : i + 1], pipe(prompts[i], seed=seed, **call).images), f"picture {i}"
