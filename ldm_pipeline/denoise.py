"""Latents to cleaner latents: the denoising loop, on one screen.

Knows nothing of pictures, of how a run started, or of where texts and settings came from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.guidance import Guidance, Term, composed_prediction, weighted_mean
from ldm_pipeline.network import alone, rows_of
from ldm_pipeline.noise import Float32Draws
from ldm_pipeline.schedulers import network_input, one_each
from ldm_pipeline.text import Branch, TextConditioning, lengthen

Join = Callable[[TextConditioning], TextConditioning]
"""Adds to texts what is read beside them."""


@dataclass(frozen=True, kw_only=True)
class StepState:
    """What a step leaves behind, and what a callback may replace."""

    latents: Float[Tensor, "batch channels height width"]
    conditioning: TextConditioning
    guidance: Guidance
    pictures: Any = None
    """What the network reads beside its prompt (`ip_adapter.ImageConditioning`); None: nothing."""
    exact: bool = False
    """Whether each picture is computed alone, so that its neighbors cannot change its bits."""
    join: Join | None = None
    """Joins to a picture's texts what all pictures read beside them (regions' phrases); None: nothing."""

    def of_picture(self, i: int) -> "StepState":
        """Give picture i's own state: what it would be in a run of that picture alone, its texts joined."""
        texts = self.conditioning
        own = replace(
            texts,
            prompts=_branches_of(texts.prompts, i),
            negatives=_branches_of(texts.negatives, i),
            null=None if texts.null is None else _branches_of((texts.null,), i)[0],
        )
        return replace(
            self,
            latents=alone(self.latents, i),
            conditioning=own if self.join is None else self.join(own),
            join=None,
            pictures=None if self.pictures is None else self.pictures.of_picture(i),
        )

    def each_alone(self) -> "list[StepState]":
        """Give the states that are predicted for one by one: with `exact` a picture's each, else this one."""
        if self.exact:
            return [self.of_picture(i) for i in range(len(self.latents))]
        return [self if self.join is None else replace(self, conditioning=self.join(self.conditioning))]


STATES = ("prompt_embeds", "negative_prompt_embeds")
"""diffusers' names for the token states that a callback may see and change."""
AfterStep = Callable[[int, Tensor, StepState], StepState]
"""Called with the step's number in this run, its timestep and its state; gives the state to go on with."""
Predict = Callable[..., Tensor]
"""Has the signature of `predict`."""


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
    joined: Callable[[Tensor], Tensor],
    put_back: Callable[[Any, Tensor, int], Tensor],
    after_step: AfterStep,
    interrupted: Callable[[], bool],
    predict_with: Predict | None = None,
) -> Tensor:
    """Run the steps `timesteps` of a schedule and return the latents (pictures channels height width).

    Step i of this run is step `first_step + i` of `total_steps`: that place decides where guidance and the
    negative prompt act. `joined` adds what an inpainting network reads beside its input, `put_back` restores
    what a mask keeps; once `interrupted` is true no step is begun. `predict_with` stands in for `predict`.
    With `state.exact` pictures with a generator each, or with none, are stepped alone, too.
    """
    each = [scheduler]
    if state.exact:
        each = one_each(scheduler, len(state.latents), generator=step_arguments.get("generator"))
    for i, timestep in enumerate(timesteps):
        if interrupted():
            break
        place = (first_step + i) / total_steps
        rows = zip(each, _dealt(state.latents, each), strict=True)
        model_input = joined(torch.cat([network_input(one, own, timestep) for one, own in rows]))
        prediction = (predict_with or predict)(
            unet, model_input, timestep, state, place=place, arguments=network_arguments
        )
        kept = put_back(scheduler, _stepped(each, prediction, timestep, state.latents, step_arguments), i)
        state = after_step(i, timestep, replace(state, latents=kept))
    return state.latents


def _dealt(batch: Tensor, each: Sequence[Any]) -> Sequence[Tensor]:
    """Deal a batch to schedulers: a picture to each, or all to the only one."""
    return [alone(batch, i) for i in range(len(batch))] if len(each) == len(batch) else [batch]


def _stepped(
    each: Sequence[Any], prediction: Tensor, timestep: Tensor, latents: Tensor, arguments: dict[str, Any]
) -> Tensor:
    """Take one step with a scheduler per picture, or with one for all; noise is drawn in float32."""
    rows, found = zip(each, _dealt(prediction, each), _dealt(latents, each), strict=True), []
    with Float32Draws():
        for i, (scheduler, own, before) in enumerate(rows):
            given = arguments
            if isinstance(draws := arguments.get("generator"), list) and len(each) == len(draws):
                given = {**arguments, "generator": [draws[i]]}
            found.append(scheduler.step(own, timestep, before, **given, return_dict=False)[0])
    return torch.cat(found)


def predict(
    unet: Any,
    model_input: Tensor,
    timestep: Tensor,
    state: StepState,
    *,
    place: float,
    arguments: dict[str, Any],
) -> Tensor:
    """Predict what the scheduler wants (eps, v or flow): all branches in one batch, unconditional ones first.

    Tensors in `arguments` have a row per picture and are handed to each branch. With `state.exact` each
    picture has a batch of its own, of the branches and tokens that it would have alone.
    """
    states = state.each_alone()
    if not state.exact:
        return predict_batch(unet, model_input, timestep, states[0], place=place, arguments=arguments)
    predictions = [
        predict_batch(
            unet, alone(model_input, i), timestep, own, place=place, arguments=rows_of(arguments, i)
        )
        for i, own in enumerate(states)
    ]
    return torch.cat(predictions)


def predict_batch(
    unet: Any,
    model_input: Tensor,
    timestep: Tensor,
    state: StepState,
    *,
    place: float,
    arguments: dict[str, Any],
) -> Tensor:
    """Predict as `predict` does, all pictures in one batch."""
    negatives, prompts = unconditional_branches(state, place=place), state.conditioning.prompts
    branches = align([*negatives, *prompts])
    given = {**arguments, **text_arguments(branches)}
    if state.pictures is not None:
        given["added_cond_kwargs"] = state.pictures.added(negatives=len(negatives), prompts=len(prompts))
    if (count := len(branches)) > 1:
        model_input = torch.cat([model_input] * count)
        given |= {
            name: torch.cat([value] * count) for name, value in arguments.items() if isinstance(value, Tensor)
        }
    answers = unet(model_input, timestep, **given, return_dict=False)[0].chunk(count)
    terms = [
        Term(prediction=answer, weight=branch.weight)
        for answer, branch in zip(answers, branches, strict=True)
    ]
    if not negatives:
        return weighted_mean(terms)
    return composed_prediction(terms[: len(negatives)], terms[len(negatives) :], state.guidance)


def _branches_of(branches: tuple[Branch, ...], i: int) -> tuple[Branch, ...]:
    """Give picture i's rows of branches: without those of weight 0, and without padding at the end."""
    found = []
    for branch in branches:
        if branch.weight is not None and branch.weight[i] == 0:
            continue
        rows = slice(i, i + 1)
        states, weight = branch.states[rows], None if branch.weight is None else branch.weight[rows]
        read = None if branch.attention is None else branch.attention[rows]
        if read is not None and read[:, : (length := int(read.sum()))].all():
            states, read = states[:, :length], None
        found.append(Branch(states=alone(states, 0), attention=read, weight=weight))
    return tuple(found)


def unconditional_branches(state: StepState, *, place: float) -> tuple[Branch, ...]:
    """Give the unconditional branches at a place in the schedule; none where they are not run."""
    negatives, null = state.conditioning.negatives, state.conditioning.null
    if not negatives or not state.guidance.acts_at(place):
        return ()
    if state.guidance.negative_acts_at(place):
        return negatives
    assert null is not None, "the empty prompt is encoded wherever the negative prompt starts late"
    return (null,)


def align(branches: Sequence[Branch]) -> list[Branch]:
    """Bring branches to one number of tokens, so that they go into one batch."""
    longest = max(branch.states.shape[1] for branch in branches)
    return [lengthen(branch, longest) for branch in branches]


def text_arguments(branches: Sequence[Branch]) -> dict[str, Tensor]:
    """Give the network's arguments for branches of one length; a mask only where some tokens are padding."""
    states = torch.cat([branch.states for branch in branches])
    if all(branch.attention is None for branch in branches):
        return {"encoder_hidden_states": states}
    read = [
        torch.ones(branch.states.shape[:2], dtype=torch.bool, device=states.device)
        if branch.attention is None
        else branch.attention
        for branch in branches
    ]
    return {"encoder_hidden_states": states, "encoder_attention_mask": torch.cat(read)}


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
    number of rows, and for token states where a picture has several prompts or negative prompts.
    """
    negatives = unconditional_branches(state, place=place)
    tensors: dict[str, Tensor | None] = {"latents": state.latents}
    if {*names} & {*STATES}:
        _check_single(state.conditioning)
        branches = align([*negatives, *state.conditioning.prompts])
        tensors["prompt_embeds"] = text_arguments(branches)["encoder_hidden_states"]
        tensors["negative_prompt_embeds"] = branches[0].states if negatives else None
    handed = {name: tensors[name] for name in names}
    pipe._guidance_scale, pipe._guidance_rescale = state.guidance.scale, state.guidance.rescale
    returned = callback(pipe, step, timestep, dict(handed))
    if not isinstance(returned, dict):
        raise TypeError(
            f"callback_on_step_end returned {type(returned).__name__}: return the dict it was given"
        )
    changed = {name: value for name, value in returned.items() if value is not handed.get(name)}
    guidance = replace(state.guidance, scale=pipe._guidance_scale, rescale=pipe._guidance_rescale)
    return replace(
        state,
        latents=changed.get("latents", state.latents),
        conditioning=_with_states(state, changed, negatives),
        guidance=guidance,
    )


def _with_states(
    state: StepState, changed: dict[str, Any], negatives: tuple[Branch, ...]
) -> TextConditioning:
    """Take over the token states that a callback changed."""
    conditioning, pictures = state.conditioning, len(state.latents)
    if any(changed.get(name) is not None for name in STATES):
        _check_single(conditioning)
    if (states := changed.get("prompt_embeds")) is not None:
        if len(states) not in (pictures, 2 * pictures):
            raise ValueError(
                f"callback_on_step_end returned {len(states)} rows of prompt_embeds:"
                f" return {pictures} or {2 * pictures}"
            )
        *run, prompt = align([*negatives, *conditioning.prompts])
        conditioning = replace(conditioning, prompts=(_refilled(prompt, states[-pictures:]),))
        if len(states) == 2 * pictures:
            negative = _refilled(run[0] if run else None, states[:pictures])
            conditioning = replace(conditioning, negatives=(negative,), null=negative)
    if (states := changed.get("negative_prompt_embeds")) is not None:
        negative = align([*negatives, *conditioning.prompts])[0] if negatives else None
        conditioning = replace(conditioning, negatives=(_refilled(negative, states),))
    return conditioning


def _refilled(branch: Branch | None, states: Tensor) -> Branch:
    """Put other token states into a branch; of another length they have no padding."""
    if branch is None or branch.states.shape[1] != states.shape[1]:
        return Branch(states=states, weight=None if branch is None else branch.weight)
    return replace(branch, states=states)


def _check_single(conditioning: TextConditioning) -> None:
    """Refuse token states of weighted sums: a callback's tensors have no place for them."""
    if len(conditioning.prompts) > 1 or len(conditioning.negatives) > 1:
        raise ValueError(
            "callback_on_step_end_tensor_inputs names token states of several prompts for one picture:"
            " use 'latents' alone, or one prompt and one negative prompt per row"
        )
