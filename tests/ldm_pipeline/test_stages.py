"""What a call can be asked for beyond prompt and picture: each option acts, and acts where it should only."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import guiders
from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:this model was never trained:UserWarning")
STEPS = 4


@pytest.fixture(scope="module")
def pipe() -> LatentDiffusionPipeline:
    return tiny.make_pipeline("epsilon")


def drawn(pipe: Any, prompt: Any = "paris", **settings: Any) -> torch.Tensor:
    given = {"num_inference_steps": STEPS, "output_type": "pt", "height": 64, "width": 64, "seed": 3}
    if "guider" not in settings:
        given["guidance_scale"] = 4.0  # fmt: skip
    return pipe(prompt, **{**given, **settings}).images


def test_an_unknown_keyword_names_the_nearest_and_draws_nothing(pipe):
    with pytest.raises(TypeError, match="guidence_scale is no argument .* did you mean guidance_scale"):
        drawn(pipe, guidence_scale=3.0)


def test_a_sum_of_equal_prompts_is_the_prompt(pipe):
    plain = drawn(pipe)
    assert (drawn(pipe, [[("paris", 0.5), ("paris", 0.5)]]) - plain).abs().max() < 1e-4
    assert (drawn(pipe, [[("paris", 1.0), ("dog", 1.0)]]) - plain).abs().max() > 1e-3


def test_several_negatives_each_act(pipe):
    one, two = drawn(pipe, negative_prompt="umbrella"), drawn(pipe, negative_prompt=[["umbrella", "dog"]])
    assert (one - two).abs().max() > 1e-3
    assert (drawn(pipe, negative_prompt=[["umbrella", "umbrella"]]) - one).abs().max() < 1e-4


def test_the_recorded_request_repeats_sums_negatives_and_settings(pipe):
    first = pipe(
        [[("paris", 1.0), ("a (red:1.3) dog", 0.5)], "london"],
        negative_prompt=[["umbrella", "car"], "rain"],
        prompt_syntax="a1111",
        long_prompt="chunk",
        step_cache_interval=2,
        num_inference_steps=STEPS,
        seed=5,
        output_type="pt",
    )
    request = type(first.request).from_json(first.request.to_json())
    again = pipe(**request.to_arguments(), output_type="pt")
    assert torch.equal(first.images, again.images)


def test_a_long_prompt_is_read_to_its_end_and_its_neighbor_stays_the_same(pipe):
    filler = "paris " * 80
    with pytest.warns(UserWarning, match="was cut off: .*long_prompt='chunk' reads it"):
        cut = [drawn(pipe, filler + end) for end in ("dog", "cat")]
    assert torch.equal(*cut)
    read = [drawn(pipe, filler + end, long_prompt="chunk") for end in ("dog", "cat")]
    assert (read[0] - read[1]).abs().max() > 1e-5
    both = drawn(pipe, [filler + "dog", "london"], long_prompt="chunk", seed=[3, 4])
    assert (both[1:] - drawn(pipe, "london", seed=4)).abs().max() < 1e-4


def test_weights_act_only_where_they_are_asked_for(pipe):
    assert torch.equal(drawn(pipe, "a red dog", prompt_syntax="a1111"), drawn(pipe, "a red dog"))
    weighted = drawn(pipe, "a (red:1.4) dog", prompt_syntax="a1111")
    assert (weighted - drawn(pipe, "a red dog")).abs().max() > 1e-4


def test_known_words_are_looked_up_without_their_weights(pipe):
    pipe = LatentDiffusionPipeline(**pipe.components)
    pipe.known_words = frozenset({"a", "red", "dog"})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "this model was never trained")
        drawn(pipe, "a (red:1.4) [dog]", prompt_syntax="a1111", num_inference_steps=1)


def test_diffusers_guider_of_classifier_free_guidance_is_our_guidance(pipe):
    guided = drawn(pipe, guider=guiders.ClassifierFreeGuidance(guidance_scale=4.0))
    assert (guided - drawn(pipe)).abs().max() < 1e-4
    other = drawn(pipe, guider=guiders.TangentialClassifierFreeGuidance(guidance_scale=4.0))
    assert (other - guided).abs().max() > 1e-3


def test_a_guider_that_does_nothing_here_is_refused(pipe):
    with pytest.raises(ValueError, match="guider=SmoothedEnergyGuidance changes nothing on a UNet: use one"):
        drawn(pipe, guider=guiders.SmoothedEnergyGuidance(seg_guidance_layers=[0]))


def test_a_region_that_covers_the_picture_is_the_prompt_there(pipe):
    everywhere = drawn(pipe, "paris", regions=[("london", (0, 0, 1, 1))])
    assert (everywhere - drawn(pipe, "london")).abs().max() < 1e-4
    assert torch.equal(drawn(pipe, regions=[]), drawn(pipe))
    half = drawn(pipe, regions=[("london", (0, 0, 0.5, 1))])
    assert (half - drawn(pipe)).abs().max() > 1e-4
    assert torch.equal(drawn(pipe), drawn(pipe, regions=None)), "the processors are back"


def test_regions_and_a_callback_on_token_states_do_not_go_together(pipe):
    with pytest.raises(ValueError, match="regions put their phrases among the token states"):
        drawn(
            pipe,
            regions=[("london", (0, 0, 1, 1))],
            callback_on_step_end=lambda pipe, i, t, tensors: tensors,
            callback_on_step_end_tensor_inputs=["negative_prompt_embeds"],
        )


def test_a_regions_phrase_that_is_too_long_is_quoted(pipe):
    with pytest.warns(UserWarning, match="a region's phrase is too long, this end of it was cut off: '.*dog"):
        drawn(pipe, regions=[("paris " * 80 + "dog", (0, 0, 1, 1))])


def test_a_negative_prompt_acts_with_a_guider_whatever_the_folders_guidance_scale(pipe):
    guider, defaults = guiders.ClassifierFreeGuidance(guidance_scale=4.0), pipe.generation_defaults
    pipe.generation_defaults = dataclasses.replace(defaults, guidance_scale=1.0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "negative_prompt has no effect")
            with_it = drawn(pipe, guider=guider, negative_prompt="umbrella")
        assert (with_it - drawn(pipe, guider=guider)).abs().max() > 1e-3
    finally:
        pipe.generation_defaults = defaults


def test_a_step_cache_is_another_picture_and_gone_afterwards(pipe):
    exact = drawn(pipe)
    assert not torch.equal(drawn(pipe, step_cache_interval=2), exact)
    assert torch.equal(drawn(pipe, step_cache_interval=1), exact)


def test_threads_with_and_without_regions_do_not_mix(pipe):
    alone = [drawn(pipe, regions=regions) for regions in (None, [("london", (0, 0, 1, 0.5))])]

    def draw(i: int) -> torch.Tensor:
        return drawn(pipe, regions=[("london", (0, 0, 1, 0.5))] if i % 2 else None)

    with ThreadPoolExecutor(4) as threads:
        for i, picture in enumerate(threads.map(draw, range(8))):
            assert torch.equal(picture, alone[i % 2]), i


@pytest.fixture
def masked() -> dict[str, Any]:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = Image.new("L", (64, 64), "black")
    mask.paste("white", (16, 16, 40, 40))
    return {"image": Image.fromarray(levels), "mask_image": mask, "height": None, "width": None}


def test_a_feathered_edge_is_soft_and_ends(pipe, masked):
    exact, soft = drawn(pipe, **masked), drawn(pipe, **masked, blend="feather")
    original = torch.from_numpy(np.array(masked["image"])).permute(2, 0, 1)[None] / 255
    changed = (soft != original).any(1)[0]
    assert not torch.equal(exact, soft) and changed[8:48, 8:48].any()
    assert not changed[:, 60:].any() and not changed[60:].any()
    inside = (slice(None), slice(None), slice(16, 40), slice(16, 40))
    assert torch.equal(exact[inside], soft[inside])


def test_blend_none_returns_what_was_decoded(pipe, masked):
    original = torch.from_numpy(np.array(masked["image"])).permute(2, 0, 1)[None] / 255
    decoded = drawn(pipe, **masked, blend="none")
    assert ((decoded - original).abs()[..., 60:, 60:] > 1e-3).any()


def test_a_crop_around_the_mask_is_painted_and_put_back(pipe, masked):
    settings = {**masked, "height": 64, "width": 64}
    cropped = drawn(pipe, **settings, padding_mask_crop=4)
    original = torch.from_numpy(np.array(masked["image"])).permute(2, 0, 1)[None] / 255
    changed = (cropped != original).any(1)[0]
    assert changed[16:40, 16:40].float().mean() > 0.9 and changed.sum() == changed[16:40, 16:40].sum()
    assert (cropped - drawn(pipe, **settings)).abs().max() > 1e-3


def test_latents_start_a_run_as_the_picture_does_that_they_are_of(pipe):
    latents = torch.randn(1, tiny.LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1))
    own = {"height": None, "width": None}
    low, high = (drawn(pipe, image=latents, strength=s, output_type="latent", **own) for s in (0.3, 1.0))
    assert (low - latents).abs().mean() < (high - latents).abs().mean()
