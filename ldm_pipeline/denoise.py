"""Latents to cleaner latents: the denoising loop, on one screen.

Knows nothing of pictures, of how a run started, or of where texts and settings came from.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.guidance import Guidance, guided_prediction
from ldm_pipeline.schedulers import network_input
from ldm_pipeline.text import TextConditioning


@dataclass(frozen=True, kw_only=True)
class StepState:
    """What a step leaves behind, and what a callback may replace."""

    latents: Float[Tensor, "batch channels height width"]
    conditioning: TextConditioning
    guidance: Guidance


AfterStep = Callable[[int, Tensor, StepState], StepState]
"""Called with the step's number in this run, its timestep and its state; gives the state to go on with."""


def denoise(
    unet: Any,
    scheduler: Any,
    state: StepState,
    *,
    timesteps: Tensor,
    first_step: int,
    total_steps: int,
    step_arguments: dict[str, Any],
    network_arguments: dict[str, Any],
    put_back: Callable[[Any, Tensor, int], Tensor],
    after_step: AfterStep,
    interrupted: Callable[[], bool],
) -> Tensor:
    """Run the steps `timesteps` of a schedule and return the latents (pictures channels height width).

    Step i of this run is step `first_step + i` of `total_steps`: that place decides where guidance and the
    negative prompt act. `put_back` restores what a mask keeps; once `interrupted` is true no step is begun.
    """
    for i, timestep in enumerate(timesteps):
        if interrupted():
            break
        place = (first_step + i) / total_steps
        model_input = network_input(scheduler, state.latents, timestep)
        prediction = predict(unet, model_input, timestep, state, place=place, arguments=network_arguments)
        stepped = scheduler.step(prediction, timestep, state.latents, **step_arguments, return_dict=False)[0]
        kept = put_back(scheduler, stepped, i)
        state = after_step(i, timestep, replace(state, latents=kept))
    return state.latents


def predict(
    unet: Any,
    model_input: Tensor,
    timestep: Tensor,
    state: StepState,
    *,
    place: float,
    arguments: dict[str, Any],
) -> Tensor:
    """Predict what the scheduler wants (eps, v or flow): both branches in one batch, or one branch alone."""
    negative = unconditional_states(state, place=place)
    if negative is None:
        states = state.conditioning.prompt
        return unet(model_input, timestep, encoder_hidden_states=states, **arguments, return_dict=False)[0]
    states = torch.cat([negative, state.conditioning.prompt])
    doubled = torch.cat([model_input, model_input])
    both = unet(doubled, timestep, encoder_hidden_states=states, **arguments, return_dict=False)[0]
    unconditional, conditional = both.chunk(2)
    return guided_prediction(unconditional, conditional, state.guidance)


def unconditional_states(state: StepState, *, place: float) -> Tensor | None:
    """Give the unconditional branch's token states at a place in the schedule, None where it is not run."""
    if not state.guidance.acts_at(place):
        return None
    if state.guidance.negative_acts_at(place):
        return state.conditioning.negative
    return state.conditioning.null


def call_back(
    pipe: Any,
    callback: Callable[..., Any],
    names: list[str],
    step: int,
    timestep: Tensor,
    state: StepState,
    *,
    place: float,
) -> StepState:
    """Call diffusers' `callback_on_step_end(pipe, step, timestep, tensors)` and take over what it returns.

    As in diffusers `prompt_embeds` holds both branches (unconditional first) where both were run, and a
    callback may change `pipe._guidance_scale`. TypeError when it returns no dict, ValueError for another
    number of rows.
    """
    conditioning, pictures = state.conditioning, len(state.latents)
    negative = unconditional_states(state, place=place)
    both = conditioning.prompt if negative is None else torch.cat([negative, conditioning.prompt])
    tensors = {"latents": state.latents, "prompt_embeds": both, "negative_prompt_embeds": negative}
    handed = {name: tensors[name] for name in names}
    pipe._guidance_scale, pipe._guidance_rescale = state.guidance.scale, state.guidance.rescale
    returned = callback(pipe, step, timestep, dict(handed))
    if not isinstance(returned, dict):
        raise TypeError(
            f"callback_on_step_end returned {type(returned).__name__}: return the dict it was given"
        )
    changed = {name: value for name, value in returned.items() if value is not handed.get(name)}
    if (states := changed.get("prompt_embeds")) is not None:
        if len(states) not in (pictures, 2 * pictures):
            raise ValueError(
                f"callback_on_step_end returned {len(states)} rows of prompt_embeds:"
                f" return {pictures} or {2 * pictures}"
            )
        conditioning = replace(conditioning, prompt=states[-pictures:])
        if len(states) == 2 * pictures:
            conditioning = replace(conditioning, negative=states[:pictures], null=states[:pictures])
    if (negative := changed.get("negative_prompt_embeds")) is not None:
        conditioning = replace(conditioning, negative=negative)
    guidance = replace(state.guidance, scale=pipe._guidance_scale, rescale=pipe._guidance_rescale)
    return StepState(
        latents=changed.get("latents", state.latents), conditioning=conditioning, guidance=guidance
    )
