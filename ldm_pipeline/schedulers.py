"""Schedulers by name, and the few things that differ between them, in one place.

Knows nothing of networks or pictures, and leaves sigmas and steps to diffusers.

Flow models (x_t = (1 - s) x_0 + s e, target e - x_0, timestep 1000 s) run under few schedulers. Error of the
endpoint for a Gaussian with the exact velocity after 14 / 50 steps, diffusers 0.42.1, spread of x_T about 4:
DPM++ 0.020 / 0.011, UniPC 0.020 / 0.005, FlowMatch Euler 0.18 / 0.05, FlowMatch Heun 0.004 / 0.0003 (two
network calls a step); DPM++ singlestep 0.08 / 0.004 and DEIS 0.11 / 0.03 lag, SA-solver fails (2.1 / 2.1).
"""

import copy
import inspect
from typing import Any

import diffusers
import torch
from torch import Tensor

FLOW_SCHEDULERS = (
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
"""Schedulers that run a rectified-flow model rightly."""

DIFFUSION_SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that run a model which predicts eps or v."""

SHORT_NAMES = {
    "dpm++": ("DPMSolverMultistepScheduler", "DPMSolverMultistepScheduler"),
    "unipc": ("UniPCMultistepScheduler", "UniPCMultistepScheduler"),
    "euler": ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler"),
    "heun": ("FlowMatchHeunDiscreteScheduler", "HeunDiscreteScheduler"),
    "euler-a": (None, "EulerAncestralDiscreteScheduler"),
    "ddim": (None, "DDIMScheduler"),
    "ddpm": (None, "DDPMScheduler"),
    "pndm": (None, "PNDMScheduler"),
    "lms": (None, "LMSDiscreteScheduler"),
    "deis": (None, "DEISMultistepScheduler"),
    "lcm": (None, "LCMScheduler"),
    "tcd": (None, "TCDScheduler"),
}
"""Short name to (class for a flow model, class for an eps or v model)."""


def is_flow(scheduler: Any) -> bool:
    """Tell whether a scheduler, or its config as a dict, is set up for a rectified-flow model."""
    config = (
        scheduler
        if isinstance(scheduler, dict)
        else {"_class_name": type(scheduler).__name__, **scheduler.config}
    )
    flow_match = str(config.get("_class_name", "")).startswith("FlowMatch")
    return flow_match or config.get("prediction_type") == "flow_prediction"


def make_scheduler(name: str, like: Any, *, flow: bool) -> Any:
    """Make the scheduler called `name` (short, or a class name) with the noise schedule of `like`.

    ValueError, naming those that can, where `name` cannot run the model (`flow`: rectified flow).
    """
    able = FLOW_SCHEDULERS if flow else DIFFUSION_SCHEDULERS
    for_flow, for_diffusion = SHORT_NAMES.get(name.lower(), (name, name))
    class_name = for_flow if flow else for_diffusion
    if class_name not in able:
        kind = "a rectified-flow model" if flow else "a model that predicts eps or v"
        short = [s for s, pair in SHORT_NAMES.items() if pair[0 if flow else 1]]
        raise ValueError(f"scheduler={name!r} cannot run {kind}: use one of {', '.join((*short, *able))}")
    extra: dict[str, Any] = {}
    if flow:
        shift = like.config.get("flow_shift", like.config.get("shift", 1.0))
        if class_name.startswith("FlowMatch"):
            extra = {"shift": shift}
        else:
            extra = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    try:
        return getattr(diffusers, class_name).from_config(like.config, **extra)
    except ImportError:
        raise ValueError(f"scheduler={name!r} needs scipy: run `pip install scipy`") from None


def check_scheduler(scheduler: Any, *, flow: bool) -> None:
    """Raise ValueError, before the first step, for a scheduler that would draw noise from this model.

    `flow` says what the model was trained for; most schedulers neither know nor ask.
    """
    name = type(scheduler).__name__
    if flow != is_flow(scheduler):
        kind, other = ("a rectified-flow", "eps or v") if flow else ("an eps or v", "rectified-flow")
        able = FLOW_SCHEDULERS if flow else DIFFUSION_SCHEDULERS
        raise ValueError(
            f"{name} is set up for {other} but this is {kind} model: use one of {', '.join(able)}"
        )
    if flow and name not in FLOW_SCHEDULERS:
        raise ValueError(f"{name} cannot run a rectified-flow model: use one of {', '.join(FLOW_SCHEDULERS)}")
    if flow and not name.startswith("FlowMatch") and not scheduler.config.use_flow_sigmas:
        raise ValueError(
            f"{name} needs use_flow_sigmas=True for a rectified-flow model: set it in the scheduler's config"
        )
    if name == "DPMSolverSDEScheduler":
        raise ValueError(
            f"{name} takes no generator, so no seed repeats a picture: use EulerAncestralDiscreteScheduler"
        )


def scheduler_for_run(scheduler: Any) -> Any:
    """Copy a scheduler for one run, so that two runs never share its step counter.

    Old Stable Diffusion configs lack `steps_offset=1` and `clip_sample=False`; diffusers' pipelines correct
    the scheduler they were given, and the same pictures need the same correction: here on the copy.
    """
    run = copy.deepcopy(scheduler)
    wanted = {"steps_offset": 1, "clip_sample": False}
    run.register_to_config(
        **{key: value for key, value in wanted.items() if run.config.get(key, value) != value}
    )
    return run


def set_steps(
    scheduler: Any,
    steps: int,
    *,
    timesteps: tuple[int, ...] | None,
    sigmas: tuple[float, ...] | None,
    device: torch.device,
) -> int:
    """Lay out the schedule in the scheduler and return its number of steps (a Heun step counts once).

    Own `timesteps` or `sigmas` (not both) replace `steps`; ValueError where the scheduler takes none.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("timesteps and sigmas were both given: give one of them")
    own: dict[str, Any] = {}
    if timesteps is not None:
        own = {"timesteps": list(timesteps)}
    if sigmas is not None:
        own = {"sigmas": list(sigmas)}
    for name in own:
        if name not in inspect.signature(scheduler.set_timesteps).parameters:
            raise ValueError(
                f"{name} was given, but {type(scheduler).__name__} takes none: use num_inference_steps"
            )
    if own:
        scheduler.set_timesteps(**own, device=device)
        return len(scheduler.timesteps)
    scheduler.set_timesteps(steps, device=device)
    return steps


def noised(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Bring clean latents to the noise level of `timestep` (a single number).

    FlowMatch schedulers call this `scale_noise`. DPM++ and UniPC with flow sigmas give (1 - s) x_0 + s e
    exactly (tested), as long as `set_begin_index` was called: then they count steps instead of searching.
    """
    add = getattr(scheduler, "scale_noise", None)
    if add is not None:
        return add(clean, timestep.reshape(1), noise)
    return scheduler.add_noise(clean, noise, timestep.reshape(1))


def network_input(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """Scale latents to what the network was trained on; FlowMatch schedulers have nothing to scale."""
    scale = getattr(scheduler, "scale_model_input", None)
    return latents if scale is None else scale(latents, timestep)


def first_noise(scheduler: Any, noise: Tensor) -> Tensor:
    """Scale standard normal noise to the scheduler's first noise level."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


def step_arguments(scheduler: Any, *, generator: Any, eta: float) -> dict[str, Any]:
    """Choose, of `generator` and `eta`, what this scheduler's `step` accepts."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"generator": generator, "eta": eta}
    return {name: value for name, value in offered.items() if name in accepted}
