"""diffusers' guiders steer a UNet, leave it and themselves as they were, and the idle ones are refused."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import guiders
from diffusers.guiders.smoothed_energy_guidance import SmoothedEnergyGuidanceConfig
from diffusers.hooks import LayerSkipConfig
from diffusers.models.attention_processor import AttnProcessor

from ldm_pipeline.denoise import StepState, predict
from ldm_pipeline.guidance import Guidance, guided_prediction
from ldm_pipeline.guiders import THAT_DO_NOT, THAT_WORK, check_guider, guided_by
from ldm_pipeline.text import Branch, TextConditioning
from tests import tiny

STEPS = 10
MID = "mid_block.attentions.0.transformer_blocks"


def layers(**settings: Any) -> LayerSkipConfig:
    return LayerSkipConfig(fqn=MID, indices=[0], **settings)


def working() -> dict[str, Any]:
    """Each guider that works, so set that on tiny latents it differs from plain guidance of 4."""
    scores: dict[str, Any] = {"skip_attention": False, "skip_attention_scores": True, "skip_ff": False}
    found: list[Any] = [
        guiders.ClassifierFreeGuidance(4.0, start=0.2, stop=0.6),
        guiders.AdaptiveProjectedGuidance(4.0, adaptive_projected_guidance_momentum=-0.5, eta=0.0),
        guiders.AdaptiveProjectedMixGuidance(4.0, adaptive_projected_guidance_scale=4.0),
        guiders.TangentialClassifierFreeGuidance(4.0),
        guiders.ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=0),
        guiders.PerturbedAttentionGuidance(
            4.0, perturbed_guidance_config=layers(**scores), perturbed_guidance_stop=1.0
        ),
        guiders.SkipLayerGuidance(4.0, skip_layer_config=layers(), skip_layer_guidance_stop=1.0),
        guiders.AutoGuidance(4.0, auto_guidance_config=layers()),
    ]
    return {type(guider).__name__: guider for guider in found}


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny.make_unet()


def step_state() -> StepState:
    draw = torch.Generator().manual_seed(0)
    prompt, negative = torch.randn(2, 2, 7, 32, generator=draw)
    return StepState(
        latents=torch.randn(2, 8, 8, 12, generator=draw),
        conditioning=TextConditioning(prompts=(Branch(states=prompt),), negatives=(Branch(states=negative),)),
        guidance=Guidance(scale=4.0),
    )


class Calls:
    """Counts the calls of a network, and fails the one whose number is `fails_at`."""

    def __init__(self, network: Any, fails_at: int = -1):
        self.number, self.fails_at = 0, fails_at
        self.hook = network.register_forward_pre_hook(self.count)

    def count(self, *_: Any) -> None:
        self.number += 1
        if self.number == self.fails_at:
            raise RuntimeError("out of memory")


@torch.no_grad()
def run(predict: Any, unet: Any, *, first_step: int = 0, fails_at: int = -1) -> tuple[torch.Tensor, int]:
    """Walk down a straight line of steps: the latents at its end, and the number of network calls."""
    state, calls = step_state(), Calls(unet, fails_at)
    latents = state.latents
    try:
        for step in range(first_step, STEPS):
            timestep = torch.tensor(1000 - 1000 // STEPS * step)
            predicted = predict(unet, latents, timestep, state, place=step / STEPS, arguments={})
            latents = latents - 0.1 * predicted
    finally:
        calls.hook.remove()
    return latents, calls.number


def steered(guider: Any, unet: Any, **settings: Any) -> tuple[torch.Tensor, int]:
    first_step = settings.get("first_step", 0)
    predict = guided_by(guider, first_step=first_step, total_steps=STEPS, flow=True)
    return run(predict, unet, **settings)


def plainly(unet: Any) -> torch.Tensor:
    """Our own guidance of 4, one branch after the other."""

    def predict(unet: Any, latents: Any, timestep: Any, state: StepState, **_: Any) -> torch.Tensor:
        texts = (state.conditioning.negative, state.conditioning.prompt)
        both = [unet(latents, timestep, encoder_hidden_states=states).sample for states in texts]
        return guided_prediction(both[0], both[1], state.guidance)

    return run(predict, unet)[0]


@pytest.fixture(scope="module")
def plain(unet) -> torch.Tensor:
    return plainly(unet)


def raw(guider: Any, unet: Any) -> torch.Tensor:
    """A guider driven by hand, without our refusals."""
    ours = copy.deepcopy(guider)

    def predict(unet: Any, latents: Any, timestep: Any, state: StepState, *, place: float, **_: Any) -> Any:
        ours.set_state(round(place * STEPS), STEPS, timestep)
        texts = (state.conditioning.prompt, state.conditioning.negative)
        conditions = ours.prepare_inputs({"encoder_hidden_states": texts})
        for one in conditions:
            ours.prepare_models(unet)
            one.noise_pred = unet(latents, timestep, encoder_hidden_states=one.encoder_hidden_states).sample
            ours.cleanup_models(unet)
        return ours(conditions).pred

    return run(predict, unet)[0]


def test_the_plain_guider_equals_our_guidance(unet, plain):
    found, calls = steered(guiders.ClassifierFreeGuidance(4.0), unet)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=0)
    assert calls == 2 * STEPS


def test_the_plain_guider_equals_the_loops_own_prediction(unet):
    """Which runs both branches as one batch."""
    found, _ = steered(guiders.ClassifierFreeGuidance(4.0), unet)
    together, calls = run(predict, unet)
    torch.testing.assert_close(found, together, atol=1e-5, rtol=0)
    assert calls == STEPS


def test_all_that_work_are_tested():
    assert sorted(working()) == sorted(THAT_WORK)


@pytest.mark.parametrize("name", THAT_WORK)
def test_a_guider_really_changes_the_result(unet, plain, name):
    guider = working()[name]
    found, _ = steered(guider, unet)
    assert (found - plain).abs().max() > 0.1
    torch.testing.assert_close(found, raw(guider, unet), atol=1e-6, rtol=0)


def test_tokens_that_fill_up_a_short_text_are_not_read(unet):
    """A row shorter than its neighbor is filled with zeros that its attention mask leaves out."""
    state, guider = step_state(), guiders.ClassifierFreeGuidance(4.0)
    prompt = state.conditioning.prompt
    masked = torch.ones(2, 12, dtype=torch.bool)
    masked[:, 7:] = False
    filled = Branch(states=torch.nn.functional.pad(prompt, (0, 0, 0, 5)), attention=masked)
    texts = replace(state.conditioning, prompts=(filled,))

    def first(state: StepState) -> torch.Tensor:
        predict = guided_by(guider, first_step=0, total_steps=STEPS, flow=True)
        with torch.no_grad():
            return predict(unet, state.latents, torch.tensor(900), state, place=0.0, arguments={})

    torch.testing.assert_close(first(replace(state, conditioning=texts)), first(state), atol=1e-5, rtol=0)


def test_weighted_sums_of_prompts_are_refused(unet):
    state = step_state()
    twice = replace(state.conditioning, prompts=state.conditioning.prompts * 2)
    predict = guided_by(guiders.ClassifierFreeGuidance(4.0), first_step=0, total_steps=STEPS, flow=True)
    with pytest.raises(ValueError, match="guider takes one prompt and one negative prompt per picture: use"):
        predict(
            unet,
            state.latents,
            torch.tensor(900),
            replace(state, conditioning=twice),
            place=0.0,
            arguments={},
        )


def test_an_interval_saves_network_calls(unet):
    assert steered(guiders.ClassifierFreeGuidance(4.0, start=0.2, stop=0.6), unet)[1] == STEPS + 4


def test_perturbed_attention_calls_the_network_three_times_inside_its_window(unet):
    assert steered(working()["PerturbedAttentionGuidance"], unet)[1] == 3 * STEPS - 1


@pytest.mark.parametrize("name", THAT_WORK)
def test_a_guider_and_the_unet_stay_as_they_were(unet, plain, name):
    guider = working()[name]
    before = repr(guider)
    first, _ = steered(guider, unet)
    assert repr(guider) == before
    assert torch.equal(steered(guider, unet)[0], first)
    assert torch.equal(plainly(unet), plain)


@pytest.mark.parametrize("name", ["PerturbedAttentionGuidance", "SkipLayerGuidance", "AutoGuidance"])
def test_a_step_that_fails_leaves_no_hooks(unet, plain, name):
    guider = working()[name]
    altered_call = 2 if name == "AutoGuidance" else 5  # two calls in the first step, then three
    with pytest.raises(RuntimeError, match="out of memory"):
        steered(guider, unet, fails_at=altered_call)
    registries = [module for module in unet.modules() if hasattr(module, "_diffusers_hook")]
    assert registries and not any(module._diffusers_hook.hooks for module in registries)
    assert torch.equal(plainly(unet), plain)


def test_momentum_also_begins_in_image_to_image(unet):
    still = guiders.AdaptiveProjectedGuidance(4.0, eta=0.0)
    moving = working()["AdaptiveProjectedGuidance"]
    one, other = (steered(guider, unet, first_step=5)[0] for guider in (still, moving))
    assert (one - other).abs().max() > 0.01


def test_a_setting_changed_after_construction_counts(unet, plain):
    guider = guiders.ClassifierFreeGuidance(2.0)
    guider.guidance_scale = 4.0
    torch.testing.assert_close(steered(guider, unet)[0], plain, atol=1e-5, rtol=0)


def idle() -> dict[str, Any]:
    energy = SmoothedEnergyGuidanceConfig(fqn=MID, indices=[0])
    return {
        "SmoothedEnergyGuidance": guiders.SmoothedEnergyGuidance(4.0, seg_guidance_config=energy),
        "LTX2Guidance": guiders.LTX2Guidance(4.0),
    }


@pytest.mark.parametrize("name", ["SmoothedEnergyGuidance", "LTX2Guidance"])
def test_the_guiders_that_do_nothing_are_refused(unet, plain, name):
    guider = idle()[name]
    torch.testing.assert_close(raw(guider, unet), plain, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=f"guider={name} .*: use one of ClassifierFreeGuidance"):
        check_guider(guider, flow=True)


def test_the_guider_that_fails_is_refused(unet):
    guider = guiders.MagnitudeAwareGuidance(4.0)
    with pytest.raises(RuntimeError, match="matrix_norm"):
        raw(guider, unet)
    with pytest.raises(
        ValueError, match="guider=MagnitudeAwareGuidance fails on latents of four axes: use one"
    ):
        check_guider(guider, flow=True)


def test_every_guider_of_diffusers_is_known():
    named = {name for name in dir(guiders) if name.endswith("Guidance") and name != "BaseGuidance"}
    assert named == {*THAT_WORK, *THAT_DO_NOT}


class Unheard(guiders.ClassifierFreeGuidance):
    """A guider of somebody's own."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: 7.5, "guider=7.5 is no guider: use one of"),
        (Unheard, "guider=Unheard was never tried on a UNet: use one of"),
        (
            lambda: guiders.SkipLayerGuidance(4.0, skip_layer_guidance_layers=[0]),
            "guider=SkipLayerGuidance cannot find .*LayerSkipConfig",
        ),
        (
            lambda: guiders.PerturbedAttentionGuidance(4.0, perturbed_guidance_layers=[0]),
            "guider=PerturbedAttentionGuidance cannot find .*LayerSkipConfig",
        ),
        (
            lambda: guiders.AutoGuidance(4.0, auto_guidance_config=layers(dropout=0.5)),
            "dropout=0.5 draws what no seed repeats: use dropout=1.0",
        ),
        (lambda: guiders.ClassifierFreeZeroStarGuidance(4.0), "needs a flow model.*: use zero_init_steps=0"),
    ],
)
def test_what_cannot_steer_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as refused:
        check_guider(make(), flow=False)
    assert "\n" not in str(refused.value)


def test_a_flow_model_may_begin_with_zeros(unet, plain):
    guider = guiders.ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=1)
    assert (steered(guider, unet)[0] - plain).abs().max() > 0.1


@pytest.mark.parametrize(
    ("guider", "first_step", "words"),
    [
        (
            lambda: guiders.SkipLayerGuidance(4.0, skip_layer_config=layers()),
            5,
            "none of the steps 5 to 9 of 10 with skip_layer_guidance_stop=0.2: use more",
        ),
        (
            lambda: guiders.PerturbedAttentionGuidance(
                4.0,
                perturbed_guidance_config=layers(
                    skip_attention=False, skip_ff=False, skip_attention_scores=True
                ),
                perturbed_guidance_stop=0.1,
            ),
            0,
            "none of the steps 0 to 9 of 10 with perturbed_guidance_stop=0.1",
        ),
        (
            lambda: guiders.AdaptiveProjectedMixGuidance(4.0, adaptive_projected_guidance_start_step=9),
            0,
            "plain guidance in all of 10 steps: use adaptive_projected_guidance_start_step=8 or less, now 9",
        ),
    ],
)
def test_a_guider_that_acts_in_no_step_is_refused(guider, first_step, words):
    with pytest.raises(ValueError, match=words):
        guided_by(guider(), first_step=first_step, total_steps=STEPS, flow=True)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LayerSkipConfig(fqn=MID, indices=[3]), "indices"),
        (LayerSkipConfig(fqn="mid_block.nothing", indices=[0]), "mid_block.nothing"),
    ],
)
def test_layers_that_are_not_there_are_refused_at_the_first_altered_call(unet, config, words):
    guider = guiders.AutoGuidance(4.0, auto_guidance_config=config)
    with pytest.raises(ValueError, match=f"guider=AutoGuidance cannot alter this UNet: .*{words}"):
        steered(guider, unet)


def test_attention_without_a_fused_kernel_is_refused_rather_than_left_unperturbed():
    unet = tiny.make_unet()
    unet.set_attn_processor(AttnProcessor())
    with pytest.raises(ValueError, match="guider=PerturbedAttentionGuidance cannot alter this UNet"):
        steered(working()["PerturbedAttentionGuidance"], unet)


@pytest.mark.parametrize(
    "given",
    [
        {"guidance_scale": 4.0},
        {"guidance_rescale": 0.7},
        {"guidance_interval": (0.0, 0.5)},
        {"negative_start": 0.2},
    ],
)
def test_what_a_guider_replaces_is_refused_beside_it(flow_pipe, given):
    (name,) = given
    with pytest.raises(ValueError, match=f"{name}=.* has no effect beside a guider"):
        flow_pipe("paris", seed=7, guider=guiders.AdaptiveProjectedGuidance(4.0), **given)
