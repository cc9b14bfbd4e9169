"""Schedulers run what they can, refuse what they cannot, and agree on noise levels."""

# pyright: reportPrivateImportUsage=false

from typing import Any

import diffusers
import pytest
import torch

from ldm_pipeline import schedulers
from tests import tiny

CPU = torch.device("cpu")


def prepared(name: str, *, flow: bool, steps: int = 8):
    like = tiny.make_scheduler("flow_prediction" if flow else "epsilon")
    scheduler = schedulers.scheduler_for_run(schedulers.make_scheduler(name, like, flow=flow))
    schedulers.set_steps(scheduler, steps, timesteps=None, sigmas=None, device=CPU)
    return scheduler


@pytest.mark.parametrize("name", schedulers.FLOW_SCHEDULERS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedulers_noise_a_picture_along_the_straight_line(name, shift):
    """x_t = (1 - s) x_0 + s e at the sigma of the step, before the first step and between steps."""
    like = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler = schedulers.make_scheduler(name, like, flow=True)
    schedulers.set_steps(scheduler, 8, timesteps=None, sigmas=None, device=CPU)
    clean, noise = torch.randn(2, 1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    first = 3 * scheduler.order
    scheduler.set_begin_index(first)
    for k in range(first, len(scheduler.timesteps) - 1):
        s = scheduler.sigmas[k]
        assert abs(float(scheduler.timesteps[k]) / 1000 - float(s)) < 1.1e-3
        level = schedulers.noised(scheduler, clean, noise, scheduler.timesteps[k])
        torch.testing.assert_close(level, (1 - s) * clean + s * noise)
        scheduler.step(torch.zeros_like(clean), scheduler.timesteps[k], level)


@pytest.mark.parametrize("name", schedulers.FLOW_SCHEDULERS)
def test_flow_schedulers_solve_a_flow_with_a_known_end(name):
    """Data N(0, 1/4): the velocity is known in closed form and noise e must end at e / 2."""
    scheduler = prepared(name, flow=True, steps=30)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x = noise
    for t in scheduler.timesteps:
        s = float(t) / 1000
        velocity = x * (s - (1 - s) / 4) / ((1 - s) ** 2 / 4 + s**2)
        x = scheduler.step(velocity, t, x, return_dict=False)[0]
    assert (x - noise / 2).abs().max() < 0.1


@pytest.mark.parametrize("name", ["ddim", "ddpm", "pndm", "euler-a", "lcm", "tcd", "deis", "lms"])
def test_a_flow_model_refuses_schedulers_that_cannot_run_it_and_names_those_that_can(name):
    with pytest.raises(ValueError, match="cannot run a rectified-flow model: use one of dpm.., unipc"):
        schedulers.make_scheduler(name, tiny.make_scheduler(), flow=True)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "DDIMScheduler",
            "DDPMScheduler",
            "PNDMScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
        ),
        *("EulerAncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler", "DEISMultistepScheduler"),
    ],
)
def test_a_scheduler_put_on_a_flow_model_by_hand_is_refused_before_the_first_step(name):
    config = {**tiny.make_scheduler().config}
    for scheduler in (
        getattr(diffusers, name)(),
        getattr(diffusers, name).from_config(config, prediction_type="flow_prediction"),
    ):
        with pytest.raises(ValueError, match="use one of DPMSolverMultistepScheduler, UniPC"):
            schedulers.check_scheduler(scheduler, flow=True)


def test_a_flow_scheduler_on_an_eps_model_and_missing_flow_sigmas_are_refused():
    with pytest.raises(ValueError, match="this is an eps or v model"):
        schedulers.check_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(), flow=False)
    half = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction")
    with pytest.raises(ValueError, match="use_flow_sigmas=True"):
        schedulers.check_scheduler(half, flow=True)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="scheduler='dpm' cannot run a model that predicts eps or v"):
        schedulers.make_scheduler("dpm", tiny.make_scheduler("epsilon"), flow=False)


def test_changing_schedulers_keeps_the_noise_schedule_and_the_shift():
    like = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.5
    )
    euler = schedulers.make_scheduler("euler", like, flow=True)
    back = schedulers.make_scheduler("dpm++", euler, flow=True)
    assert euler.config.shift == 2.5
    assert (back.config.flow_shift, back.config.prediction_type, back.config.use_flow_sigmas) == (
        2.5,
        "flow_prediction",
        True,
    )
    eps = schedulers.make_scheduler("ddim", tiny.make_scheduler("epsilon"), flow=False)
    assert (eps.config.beta_start, eps.config.beta_schedule) == (0.00085, "scaled_linear")


def test_the_copy_for_a_run_is_corrected_and_the_original_is_not():
    old: Any = diffusers.DDIMScheduler(steps_offset=0, clip_sample=True)
    run = schedulers.scheduler_for_run(old)
    assert (run.config.steps_offset, run.config.clip_sample) == (1, False)
    assert (old.config.steps_offset, old.config.clip_sample) == (0, True)
    schedulers.set_steps(run, 5, timesteps=None, sigmas=None, device=CPU)
    assert old.num_inference_steps is None


def test_own_timesteps_replace_the_number_of_steps_or_are_refused():
    dpm = prepared("dpm++", flow=False)
    assert schedulers.set_steps(dpm, 50, timesteps=(900, 500, 100), sigmas=None, device=CPU) == 3
    assert dpm.timesteps.tolist() == [900, 500, 100]
    with pytest.raises(ValueError, match="sigmas was given, but DDIMScheduler takes none"):
        schedulers.set_steps(prepared("ddim", flow=False), 5, timesteps=None, sigmas=(1.0,), device=CPU)
    with pytest.raises(ValueError, match="give one of them"):
        schedulers.set_steps(dpm, 5, timesteps=(1,), sigmas=(1.0,), device=CPU)
