"""diffusers' guiders on a UNet: which of them work there, and a prediction that one of them steers.

Knows nothing of how the loop steps, of prompts as text or of our own guidance, which a guider replaces.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
from collections.abc import Callable
from typing import Any

import torch
from diffusers import guiders
from torch import Tensor

from ldm_pipeline.network import alone, rows_of

Predict = Callable[..., Tensor]
"""As `denoise.predict`: (unet, model_input, timestep, state, *, place, arguments), gives a prediction."""

THAT_WORK = (
    "ClassifierFreeGuidance",
    "AdaptiveProjectedGuidance",
    "AdaptiveProjectedMixGuidance",
    "TangentialClassifierFreeGuidance",
    "ClassifierFreeZeroStarGuidance",
    "PerturbedAttentionGuidance",
    "SkipLayerGuidance",
    "AutoGuidance",
)
"""Class names; each was run on UNets and changes the result (diffusers 0.42.1, the tests do it again)."""

THAT_DO_NOT = {
    "SmoothedEnergyGuidance": "changes nothing on a UNet",
    "LTX2Guidance": "is for video, and plain guidance on a UNet",
    "MagnitudeAwareGuidance": "fails on latents of four axes",
    "FrequencyDecoupledGuidance": "needs kornia, with which it was never tried here",
}
"""Class names, and what was seen when they were run."""

LAYERS_OF_A_UNET = 'LayerSkipConfig(fqn="mid_block.attentions.0.transformer_blocks", indices=[0])'


def check_guider(guider: Any, *, flow: bool) -> None:
    """Refuse in one line what cannot steer a UNet: other objects, other guiders, settings without effect.

    `flow` tells that the model predicts flow, not noise or v.
    """
    name = type(guider).__name__
    if not isinstance(guider, guiders.BaseGuidance):
        raise ValueError(
            f"guider={guider!r} is no guider: use one of diffusers.guiders, {', '.join(THAT_WORK)}"
        )
    if name not in THAT_WORK:
        why = THAT_DO_NOT.get(name, "was never tried on a UNet")
        raise ValueError(f"guider={name} {why}: use one of {', '.join(THAT_WORK)}")
    if isinstance(guider, guiders.ClassifierFreeZeroStarGuidance) and guider.zero_init_steps and not flow:
        raise ValueError(
            f"guider={name} with zero_init_steps={guider.zero_init_steps} needs a flow model, noise"
            " models drift from the first step: use zero_init_steps=0"
        )
    for layers in layers_changed(guider):
        if layers.fqn == "auto":
            raise ValueError(
                f"guider={name} cannot find a UNet's layers by number alone: give it {LAYERS_OF_A_UNET}"
            )
        if layers.dropout != 1.0:
            raise ValueError(
                f"guider={name} with dropout={layers.dropout:g} draws what no seed repeats: use dropout=1.0"
            )


def layers_changed(guider: Any) -> Any:
    """List the `LayerSkipConfig`s by which a guider weakens the network; empty for most."""
    if isinstance(guider, guiders.AutoGuidance):
        return guider.auto_guidance_config  # always a list once the guider is made
    if isinstance(guider, guiders.SkipLayerGuidance | guiders.PerturbedAttentionGuidance):
        return guider.skip_layer_config
    return []


def check_steps(guider: Any, *, first_step: int, total_steps: int) -> None:
    """Refuse a guider whose own window holds none of the steps `first_step`, ... of `total_steps`.

    Skip-layer and perturbed-attention guidance act strictly inside their window, which in their defaults ends
    at a fifth of the schedule; the projected mix is plain guidance up to its start step.
    """
    name, run = type(guider).__name__, range(first_step, total_steps)
    if isinstance(guider, guiders.AdaptiveProjectedMixGuidance):
        after = guider.adaptive_projected_guidance_start_step
        if run[-1] <= after:
            raise ValueError(
                f"guider={name} is plain guidance in all of {total_steps} steps: use"
                f" adaptive_projected_guidance_start_step={max(run[-1] - 1, 0)} or less, now {after}"
            )
    if isinstance(guider, guiders.SkipLayerGuidance | guiders.PerturbedAttentionGuidance):
        start, stop = guider.skip_layer_guidance_start, guider.skip_layer_guidance_stop
        if not any(int(start * total_steps) < step < int(stop * total_steps) for step in run):
            ours = "perturbed" if isinstance(guider, guiders.PerturbedAttentionGuidance) else "skip_layer"
            raise ValueError(
                f"guider={name} acts in none of the steps {run[0]} to {run[-1]} of {total_steps} with"
                f" {ours}_guidance_stop={stop:g}: use more, say 1.0"
            )


def guided_by(guider: Any, *, first_step: int, total_steps: int, flow: bool) -> Predict:
    """Give a prediction steered by a diffusers guider, for one run of the loop; the guider stays as it was.

    It takes the place of `denoise.predict` and of our own guidance: scale, rescaling and interval are the
    guider's. One network call per condition that the guider asks for at a step; in an exact run each picture
    has network calls, and a copy of the guider, of its own. Calls under skip-layer, perturbed-attention and
    auto guidance alter the UNet's modules while they last, so the caller must hold the UNet alone.
    ValueErrors of `check_guider` and `check_steps`.
    """
    check_guider(guider, flow=flow)
    check_steps(guider, first_step=first_step, total_steps=total_steps)
    ours: list[Any] = []

    def predict(
        unet: Any,
        model_input: Tensor,
        timestep: Tensor,
        state: Any,
        *,
        place: float,
        arguments: dict[str, Any],
    ) -> Tensor:
        texts = [both_texts(one.conditioning) for one in state.each_alone()]
        inputs, given = [model_input], [arguments]
        if state.exact:
            inputs = [alone(model_input, i) for i in range(len(model_input))]
            given = [rows_of(arguments, i) for i in range(len(model_input))]
        if not ours:
            for read in texts:
                one = copy.deepcopy(guider)
                # Guiders begin their momentum at step 0, which image-to-image never runs.
                one.set_state(0, total_steps, timestep)
                one.prepare_inputs(read)
                ours.append(one)
        asked = []
        for one, read in zip(ours, texts, strict=True):
            one.set_state(round(place * total_steps), total_steps, timestep)
            asked.append(one.prepare_inputs(read))
        # Condition by condition: a step cache knows a network call by its number.
        for same in zip(*asked, strict=True):
            for one, condition, own, others in zip(ours, same, inputs, given, strict=True):
                read = {name: getattr(condition, name) for name in texts[0]}
                condition.noise_pred = one_condition(one, unet, own, timestep, {**others, **read})
        return torch.cat([one(conditions).pred for one, conditions in zip(ours, asked, strict=True)])

    return predict


def both_texts(conditioning: Any) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Give what the network reads as guiders take it: (prompt, negative prompt) under the network's names.

    ValueError for weighted sums of prompts, for which guiders have no place.
    """
    if len(conditioning.prompts) > 1 or len(conditioning.negatives) > 1:
        raise ValueError(
            "guider takes one prompt and one negative prompt per picture: use guidance_scale here"
        )
    prompt, negative = conditioning.prompts[0], conditioning.negatives[0]
    return {
        "encoder_hidden_states": (prompt.states, negative.states),
        "encoder_attention_mask": (prompt.attention, negative.attention),
    }


def one_condition(
    guider: Any,
    unet: Any,
    model_input: Tensor,
    timestep: Tensor,
    arguments: dict[str, Any],
) -> Tensor:
    """Run the network as the guider wants it at this condition, and take its hooks off again."""
    try:
        try:
            guider.prepare_models(unet)
        except ValueError as error:
            raise ValueError(f"guider={type(guider).__name__} cannot alter this UNet: {error}") from error
        return unet(model_input, timestep, **arguments, return_dict=False)[0]
    finally:
        guider.cleanup_models(unet)
