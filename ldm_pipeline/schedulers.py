"""Schedulers by name, and the few things that differ between them, in one place.

Knows nothing of networks or pictures, and leaves sigmas and steps to diffusers.

Flow models (x_t = (1 - s) x_0 + s e, target e - x_0, timestep 1000 s) run under few schedulers. Error of the
endpoint for a Gaussian with the exact velocity after 14 / 50 steps, diffusers 0.42.1, spread of x_T about 4:
DPM++ 0.020 / 0.011, UniPC 0.020 / 0.005, FlowMatch Euler 0.18 / 0.05, FlowMatch Heun 0.004 / 0.0003 (two
network calls a step); DPM++ singlestep 0.08 / 0.004 and DEIS 0.11 / 0.03 lag, SA-solver fails (2.1 / 2.1).
Karras, exponential, beta and Lu spacing end in NaN under both; only UniPC converts Karras' (0.055 / 0.004).
DPM++ SDE keeps the Gaussian's spread: 0.525 / 0.505 for 0.5.
"""

import copy
import inspect
from typing import Any

import diffusers
import numpy as np
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
    "CMStochasticIterativeScheduler",
    "CogVideoXDDIMScheduler",
    "CosineDPMSolverMultistepScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers that run a model which predicts eps or v: all those that a folder may name (`folder.py`).

The consistency, cosine and EDM ones bring their own noise levels, all others take the model's.
"""

PREDICTIONS = ("epsilon", "v_prediction", "sample")
NOT_FOR_X0 = (
    "CosineDPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
)
"""Schedulers whose step raises where the model predicts the picture itself (prediction_type "sample")."""

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

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpm++ 3m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "dpm++ 2s": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++ sde": ("DPMSolverSDEScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
}
"""What A1111 and ComfyUI call a sampler, in A1111's words, to class and config; beside `SHORT_NAMES`."""

SPACINGS: dict[str, dict[str, Any]] = {
    "normal": {},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "sgm uniform": {"timestep_spacing": "trailing"},
}
"""What they call the spacing of noise levels, said after the sampler, to config."""

SPACED_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")

OWN_CONFIG = {
    "DEISMultistepScheduler": {"algorithm_type": "deis"},
    "SASolverScheduler": {"algorithm_type": "data_prediction"},
}
"""What a class does not take over from another one, as its `algorithm_type` has other values."""


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
    """Make the scheduler called `name`, with the noise schedule of `like`.

    `name` is a short name, a class name, or A1111's or ComfyUI's words ("DPM++ 2M Karras", "dpmpp_2m_sde").
    The latter also fix the spacing of noise levels, all others keep it. ValueError, naming those that can,
    where `name` cannot run the model (`flow`: rectified flow).
    """
    able = FLOW_SCHEDULERS if flow else DIFFUSION_SCHEDULERS
    class_name, config = class_and_config(name, flow=flow)
    if class_name is None or class_name not in able:
        kind = "a rectified-flow model" if flow else "a model that predicts eps or v"
        short = [s for s, pair in SHORT_NAMES.items() if pair[0 if flow else 1]]
        raise ValueError(f"scheduler={name!r} cannot run {kind}: use one of {', '.join((*short, *able))}")
    spaced = [flag for flag in SPACED_SIGMAS if config.get(flag)]
    if flow:
        shift = like.config.get("flow_shift", like.config.get("shift", 1.0))
        if class_name.startswith("FlowMatch"):
            config["shift"] = shift
        else:
            config |= {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    try:
        made = getattr(diffusers, class_name).from_config(
            like.config, **{**OWN_CONFIG.get(class_name, {}), **config}
        )
    except ImportError:
        package = "torchsde" if class_name == "DPMSolverSDEScheduler" else "scipy"
        raise ValueError(f"scheduler={name!r} needs {package}: run `pip install {package}`") from None
    for option in spaced:
        if option not in inspect.signature(type(made).__init__).parameters:
            raise ValueError(f"scheduler={name!r}: {class_name} knows no {option}: leave the last word out")
    if flow:
        check_scheduler(made, flow=True)
    return made


def class_and_config(name: str, *, flow: bool) -> tuple[str | None, dict[str, Any]]:
    """Give the class that `name` means for a kind of model, None where it means none, and what it fixes."""
    words = name.lower().replace("_", " ").replace("dpmpp", "dpm++").replace(" ancestral", " a")
    words = words.replace("dpm 2", "dpm2").replace("uni pc", "unipc")
    for_flow, for_diffusion = SHORT_NAMES.get(words, (name, name))
    if words in SHORT_NAMES:
        return (for_flow if flow else for_diffusion), {}
    spacing = next((one for one in SPACINGS if words.endswith(f" {one}")), None)
    sampler = words if spacing is None else words.removesuffix(f" {spacing}")
    if sampler in SAMPLERS:
        class_name, config = SAMPLERS[sampler]
    elif spacing is not None and sampler in SHORT_NAMES:
        class_name, config = SHORT_NAMES[sampler][0 if flow else 1], {}
    else:
        return name, {}
    plain = {flag: False for flag in SPACED_SIGMAS}
    return class_name, {**config, **plain, **SPACINGS[spacing or "normal"]}


def check_scheduler(
    scheduler: Any, *, flow: bool, seeded: bool = True, device: torch.device | None = None
) -> None:
    """Raise ValueError, before the first step, for a scheduler that would draw noise from this model.

    `flow` says what the model was trained for; most schedulers neither know nor ask. `seeded`: seeds, and not
    the caller's generators, are to repeat the pictures, on `device` as anywhere else; None: a CPU.
    """
    name, config = type(scheduler).__name__, scheduler.config
    able = ", ".join(FLOW_SCHEDULERS if flow else DIFFUSION_SCHEDULERS)
    if flow != is_flow(scheduler):
        kind, other = ("a rectified-flow", "eps or v") if flow else ("an eps or v", "rectified-flow")
        raise ValueError(f"{name} is set up for {other} but this is {kind} model: use one of {able}")
    if flow and name not in FLOW_SCHEDULERS:
        raise ValueError(f"{name} cannot run a rectified-flow model: use one of {able}")
    if flow and not name.startswith("FlowMatch"):
        if not config.use_flow_sigmas:
            raise ValueError(
                f"{name} needs use_flow_sigmas=True for a rectified-flow model: set it in the scheduler's"
                " config"
            )
        for flag in SPACED_SIGMAS:
            converted = name == "UniPCMultistepScheduler" and flag == "use_karras_sigmas"
            if config.get(flag) and not converted:
                raise ValueError(
                    f"{name} with {flag}=True cannot run a rectified-flow model: leave it out, or"
                    f" use one of {able}"
                )
    if flow:
        return
    if not hasattr(scheduler, "init_noise_sigma"):
        raise ValueError(f"{name} cannot run an eps or v model: use one of {able}")
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in PREDICTIONS or (predicted == "sample" and name in NOT_FOR_X0):
        able = ", ".join(one for one in DIFFUSION_SCHEDULERS if one not in NOT_FOR_X0)
        raise ValueError(f"{name} cannot run prediction_type={predicted!r}: use one of {able}")
    if seeded and name == "DPMSolverSDEScheduler":
        raise ValueError(
            f"{name} takes its noise from noise_sampler_seed in its config, not from seed: give generator and"
            " set that, or use EulerAncestralDiscreteScheduler, KDPM2AncestralDiscreteScheduler or"
            " DPMSolverMultistepScheduler with algorithm_type='sde-dpmsolver++'"
        )
    if seeded and device is not None and device.type != "cpu" and name == "CosineDPMSolverMultistepScheduler":
        raise ValueError(
            f"{name} draws its noise on {device.type}, where a seed means other noise than on a CPU: give"
            " generator, or use DPMSolverMultistepScheduler with algorithm_type='sde-dpmsolver++'"
        )


def scheduler_for_run(scheduler: Any, *, as_in_inpainting: bool = False) -> Any:
    """Copy a scheduler for one run, so that two runs never share its step counter.

    Old Stable Diffusion configs lack `steps_offset=1` and `clip_sample=False`; diffusers' pipelines correct
    the scheduler they were given, and the same pictures need the same correction: here on the copy. Its
    inpainting alone (`as_in_inpainting`) leaves `clip_sample` and corrects `skip_prk_steps=True`.
    """
    run = copy.deepcopy(scheduler)
    wanted = {"steps_offset": 1, **({"skip_prk_steps": True} if as_in_inpainting else {"clip_sample": False})}
    run.register_to_config(
        **{key: value for key, value in wanted.items() if run.config.get(key, value) != value}
    )
    return run


def seed_own_noise(scheduler: Any, generators: Any) -> None:
    """Seed, in a run's copy, a scheduler that draws noise by itself and whose config fixes no seed.

    Left alone it would draw one from the global random state. The seed, one per picture where each has a
    generator, follows from the generator's present state, which is not advanced: what is drawn from it later
    is what diffusers draws.
    """
    if getattr(scheduler, "noise_sampler_seed", 0) is not None:
        return

    def next_number(generator: torch.Generator) -> int:
        twin = torch.Generator(generator.device)
        twin.set_state(generator.get_state())
        drawn = torch.randint(0, 2**63 - 1, (), generator=twin, device=generator.device)
        return int(drawn.item())

    several = isinstance(generators, list)
    scheduler.noise_sampler_seed = (
        [next_number(one) for one in generators] if several else next_number(generators)
    )


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
        own = {"sigmas": np.array(sigmas)}  # UniPC computes with them, which a list does not
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


def one_each(scheduler: Any, pictures: int, *, generator: Any) -> list[Any]:
    """Give a scheduler per picture, so that each is stepped alone, or one for all where it draws for all.

    `generator` is what `step_arguments` chose. The first is `scheduler` itself, which so goes on counting.
    """
    if isinstance(generator, torch.Generator) or hasattr(scheduler, "noise_sampler_seed"):
        return [scheduler]
    return [scheduler, *(copy.deepcopy(scheduler) for _ in range(pictures - 1))]


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
