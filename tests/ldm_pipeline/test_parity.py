"""Ours equals diffusers' three pipelines: steps, final latents and pictures, at every scheduler they take."""

# pyright: reportPrivateImportUsage=false

import inspect
import itertools
from typing import Any

import diffusers
import numpy as np
import pytest

from ldm_pipeline import LatentDiffusionPipeline, folder, schedulers
from tests import tiny
from tests.side_by_side import (
    BETAS,
    SETTINGS,
    TOLERANCE,
    check_equal,
    draw,
    generators,
    inputs,
    ours,
    theirs,
)

pytestmark = [
    # DEIS and KDPM2 hand torch tensors to numpy 2; SDE solvers ask torchsde for times a hair outside.
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]
V = {"prediction_type": "v_prediction"}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
ZERO_SNR = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
KARRAS, BETA = {"use_karras_sigmas": True}, {"use_beta_sigmas": True}
EXPONENTIAL = {"use_exponential_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cm stochastic iterative": ("CMStochasticIterativeScheduler", {}),
    "cogvideox ddim": ("CogVideoXDDIMScheduler", {}),
    "cosine dpm++": ("CosineDPMSolverMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "steps_offset": 1}),
    "ddim, config of old": ("DDIMScheduler", {"clip_sample": True, "steps_offset": 0}),
    "ddim, zero snr": ("DDIMScheduler", ZERO_SNR),
    "ddim parallel": ("DDIMParallelScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "ddpm parallel": ("DDPMParallelScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "deis, karras": ("DEISMultistepScheduler", KARRAS),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++, karras": ("DPMSolverMultistepScheduler", KARRAS),
    "dpm++, exponential": ("DPMSolverMultistepScheduler", EXPONENTIAL),
    "dpm++, beta": ("DPMSolverMultistepScheduler", BETA),
    "dpm++, lu": ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    "dpm++, sde": ("DPMSolverMultistepScheduler", {**SDE, **KARRAS}),
    "dpm++, sde, third order": ("DPMSolverMultistepScheduler", {**SDE, "solver_order": 3}),
    "dpm++, zero snr": ("DPMSolverMultistepScheduler", ZERO_SNR),
    "dpm++, flow": ("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 2.0}),
    "dpm++ sde": ("DPMSolverSDEScheduler", {"noise_sampler_seed": 3}),
    "dpm++ singlestep": ("DPMSolverSinglestepScheduler", {}),
    "dpm++ singlestep, karras": ("DPMSolverSinglestepScheduler", KARRAS),
    "edm dpm++": ("EDMDPMSolverMultistepScheduler", {}),
    "edm euler": ("EDMEulerScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler, karras": ("EulerDiscreteScheduler", KARRAS),
    "euler, exponential": ("EulerDiscreteScheduler", EXPONENTIAL),
    "euler, beta": ("EulerDiscreteScheduler", BETA),
    "euler, leading": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "euler, zero snr": ("EulerDiscreteScheduler", ZERO_SNR),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "euler a, trailing": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun, karras": ("HeunDiscreteScheduler", KARRAS),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2 ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "kdpm2 ancestral, karras": ("KDPM2AncestralDiscreteScheduler", KARRAS),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": False}),
    "pndm, without prk": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "sa-solver": ("SASolverScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc, karras": ("UniPCMultistepScheduler", KARRAS),
    "unipc, zero snr": ("UniPCMultistepScheduler", ZERO_SNR),
    "unipc, flow": ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 2.0}),
}
"""Name in these tests to class and what its config adds to Stable Diffusion's betas."""
EPS = [name for name, (_, config) in SCHEDULERS.items() if "prediction_type" not in config]

needs_blend = pytest.mark.skipif(
    "blend" not in inspect.signature(LatentDiffusionPipeline.__call__).parameters,
    reason="the pipeline has no `blend` argument yet",
)
TASKS = ["noise", "picture", pytest.param("mask", marks=needs_blend)]
NEGATIVE: dict[str, Any] = {"negative_prompt": "umbrella"}


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return tiny.make_stable_diffusion_components()


def make_scheduler(name: str, **config: Any) -> Any:
    """The scheduler, or a skip where a package for it is missing."""
    class_name, own = SCHEDULERS[name]
    if class_name == "LMSDiscreteScheduler" or own.get("use_beta_sigmas"):
        pytest.importorskip("scipy")
    if class_name in ("CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler"):
        pytest.importorskip("torchsde")
    cls = getattr(diffusers, class_name)
    known = inspect.signature(cls.__init__).parameters
    return cls(**{key: value for key, value in {**BETAS, **own, **config}.items() if key in known})


def test_every_scheduler_that_diffusers_pipelines_name_is_compared_here(parts):
    pipe: Any = diffusers.StableDiffusionPipeline(**parts)
    named = {cls.__name__ for cls in pipe.scheduler.compatibles} | {*schedulers.DIFFUSION_SCHEDULERS}
    named |= {f"{name}Scheduler" for name in folder.SCHEDULER_NAMES if not name.startswith("FlowMatch")}
    assert named - {class_name for class_name, _ in SCHEDULERS.values()} == set()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_no_other_scheduler_of_diffusers_draws_in_all_its_pipelines(parts):
    allowed = {f"{name}Scheduler" for name in folder.SCHEDULER_NAMES}
    others = [name for name in dir(diffusers.schedulers) if name.endswith("Scheduler")]
    others = [name for name in others if name not in allowed and "Inverse" not in name]
    assert len(others) > 10

    def runs(name: str) -> bool:
        cls = getattr(diffusers.schedulers, name)
        known = inspect.signature(cls.__init__).parameters
        try:
            scheduler = cls(**{key: value for key, value in BETAS.items() if key in known})
            for task in ("picture", "mask", "noise"):
                draw(theirs(parts, scheduler, task), **SETTINGS, **inputs(task), generator=generators(0))
        except Exception:  # each fails at another place: no init_noise_sigma, no add_noise, other arguments
            return False
        return True

    assert [name for name in others if runs(name)] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_draws_the_same_picture(parts, name, task):
    check_equal(parts, make_scheduler(name), task, **NEGATIVE)


@pytest.mark.parametrize("name", [name for name in EPS if "," not in name])
def test_every_scheduler_draws_the_same_picture_for_a_model_that_predicts_v(parts, name):
    check_equal(parts, make_scheduler(name, **V), "noise", guidance_rescale=0.7)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("name", ["heun", "kdpm2 ancestral", "pndm", "dpm++ singlestep"])
def test_every_strength_runs_the_same_steps(parts, name, strength):
    check_equal(parts, make_scheduler(name), "picture", strength=strength, num_inference_steps=5)


@needs_blend
@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("strength", [0.39, 1.0])
@pytest.mark.parametrize("name", ["heun", "euler a"])
def test_every_strength_of_inpainting_draws_the_same_picture(name, strength, channels):
    components = tiny.make_stable_diffusion_components(unet_channels=channels)
    check_equal(components, make_scheduler(name), "mask", strength=strength)


SEVERAL: dict[str, Any] = {"prompt": ["paris", "london in the rain"], "num_images_per_prompt": 2}


@pytest.mark.parametrize(
    ("each", "task"),
    [(0, "noise"), (0, "picture"), pytest.param(0, "mask", marks=needs_blend), (4, "noise"), (4, "picture")],
)
def test_a_batch_draws_from_one_generator_or_from_one_each_as_diffusers_does(parts, each, task):
    drawn = check_equal(parts, make_scheduler("euler a"), task, each=each, **SEVERAL, num_inference_steps=3)
    assert len(drawn.pictures) == 4
    assert np.abs(drawn.pictures[0] - drawn.pictures[1]).max() > 0.01


@needs_blend
def test_inpainting_with_a_generator_each_draws_what_diffusers_draws_one_by_one(parts):
    """In a batch diffusers encodes the picture with the first generator only: no picture repeats alone."""
    scheduler, settings = make_scheduler("euler a"), {**SETTINGS, **inputs("mask"), "num_inference_steps": 3}
    drawn = draw(
        ours(parts, scheduler), **{**settings, **SEVERAL}, blend="none", generator=generators(4)
    ).pictures
    for i, generator in enumerate(generators(4)):
        one = {**settings, "prompt": SEVERAL["prompt"][i // 2], "generator": generator}
        alone = draw(theirs(parts, scheduler, "mask"), **one).pictures[0]
        assert np.abs(drawn[i] - alone).max() < TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_odd_numbers_of_latent_cells_draw_the_same_picture(parts, task):
    check_equal(parts, make_scheduler("euler a"), task, size=(72, 56))


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, "noise") for name in ("ddpm", "dpm++", "dpm++ singlestep", "euler", "lcm", "tcd")),
        *(("heun", task) for task in ("noise", "picture")),
        pytest.param("heun", "mask", marks=needs_blend),
    ],
)
def test_own_timesteps_run_the_same_steps(parts, name, task):
    own = [999, 799, 399] if name in ("lcm", "tcd") else [900, 500, 100]
    check_equal(parts, make_scheduler(name), task, timesteps=own)


@pytest.mark.parametrize("task", TASKS)
def test_own_sigmas_run_the_same_steps(parts, task):
    check_equal(parts, make_scheduler("euler"), task, sigmas=[14.0, 5.0, 1.0, 0.1])


@pytest.mark.parametrize("task", TASKS)
def test_eta_is_the_same_share_of_noise(parts, task):
    check_equal(parts, make_scheduler("ddim"), task, eta=1.0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("name", "scale"), [("lcm", 8.5), ("tcd", 7.7)])
def test_a_distilled_unet_reads_the_same_guidance_scale(name, scale, task):
    distilled = tiny.make_stable_diffusion_components(time_cond_proj_dim=32)
    check_equal(distilled, make_scheduler(name), task, guidance_scale=scale)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_one_branch_draws_the_same_picture(parts, scale):
    check_equal(parts, make_scheduler("euler"), "noise", guidance_scale=scale)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_all_settings_together_draw_the_same_pictures(parts, name, task):
    kinds = [{}] if "prediction_type" in SCHEDULERS[name][1] else [{}, V]
    strengths = ({},) if task == "noise" else tuple({"strength": one} for one in (0.2, 0.5, 0.8, 1.0))
    counts = (0,) if task == "mask" else (0, 2)  # with one each diffusers' inpainting is not repeatable alone
    choices = itertools.product(kinds, counts, ((64, 64), (72, 56)), (5, 8), strengths)
    for kind, each, size, steps, strength in choices:
        settings: dict[str, Any] = {"num_inference_steps": steps, "num_images_per_prompt": 2, **strength}
        check_equal(parts, make_scheduler(name, **kind), task, each=each, size=size, **settings)
