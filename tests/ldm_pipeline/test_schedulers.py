"""Schedulers run what they can, refuse what they cannot, and agree on noise levels."""

# pyright: reportPrivateImportUsage=false

import importlib.util
from typing import Any

import diffusers
import pytest
import torch

from ldm_pipeline import folder, schedulers
from tests import tiny

CPU = torch.device("cpu")
NEED_TORCHSDE = {"CosineDPMSolverMultistepScheduler", "DPMSolverSDEScheduler"}


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


SPELLINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M SDE Exponential": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": True},
    ),
    "dpmpp_3m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "DPM++ 2S Karras": ("DPMSolverSinglestepScheduler", {"use_karras_sigmas": True}),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm_2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "Euler Karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler SGM Uniform": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "DDIM": ("DDIMScheduler", {}),
    "PLMS": ("PNDMScheduler", {"skip_prk_steps": True}),
    "uni_pc": ("UniPCMultistepScheduler", {}),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_programs_names_give_the_class_and_what_the_name_says_of_it(spelling):
    class_name, config = SPELLINGS[spelling]
    made = schedulers.make_scheduler(spelling, tiny.make_scheduler("v_prediction"), flow=False)
    assert type(made).__name__ == class_name
    assert {name: made.config[name] for name in config} == config
    assert (made.config.beta_schedule, made.config.prediction_type) == ("scaled_linear", "v_prediction")


def test_such_a_name_fixes_the_spacing_of_noise_levels_and_a_short_name_keeps_it():
    karras = schedulers.make_scheduler("DPM++ 2M Karras", tiny.make_scheduler("epsilon"), flow=False)
    assert schedulers.make_scheduler("unipc", karras, flow=False).config.use_karras_sigmas
    assert not schedulers.make_scheduler("DPM++ 2M", karras, flow=False).config.use_karras_sigmas
    assert not schedulers.make_scheduler("Euler normal", karras, flow=False).config.use_karras_sigmas


@pytest.mark.parametrize("name", ["deis", "SASolverScheduler", "dpm++", "DPM++ 2S", "ddim", "tcd"])
def test_leaving_a_stochastic_dpm_needs_no_other_config(name):
    sde = schedulers.make_scheduler("DPM++ 2M SDE Karras", tiny.make_scheduler("epsilon"), flow=False)
    made = schedulers.make_scheduler(name, sde, flow=False)
    schedulers.check_scheduler(made, flow=False)
    assert schedulers.set_steps(made, 4, timesteps=None, sigmas=None, device=CPU) == 4


@pytest.mark.parametrize(
    ("name", "flow", "words"),
    [
        ("DPM fast", False, "scheduler='DPM fast' cannot run a model that predicts eps or v: use one of"),
        ("DDIM Karras", False, "scheduler='DDIM Karras': DDIMScheduler knows no use_karras_sigmas"),
        ("Euler a", True, "scheduler='Euler a' cannot run a rectified-flow model: use one of"),
        ("DPM++ 2M Karras", True, "with use_karras_sigmas=True cannot run a rectified-flow model"),
        ("UniPC exponential", True, "with use_exponential_sigmas=True cannot run a rectified-flow model"),
    ],
)
def test_a_name_that_means_nothing_for_the_model_is_a_one_line_error(name, flow, words):
    like = tiny.make_scheduler("flow_prediction" if flow else "epsilon")
    with pytest.raises(ValueError) as caught:
        schedulers.make_scheduler(name, like, flow=flow)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_stochastic_dpm_keeps_the_spread_of_a_known_flow():
    """Data N(0, 1/4), whose velocity is known, must end at a spread of 1/2."""
    scheduler = schedulers.make_scheduler("DPM++ 2M SDE", tiny.make_scheduler(), flow=True)
    schedulers.set_steps(scheduler, 30, timesteps=None, sigmas=None, device=CPU)
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 32, 32, generator=draws)
    for t, s in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        velocity = x * (s - (1 - s) / 4) / ((1 - s) ** 2 / 4 + s**2)
        x = scheduler.step(velocity, t, x, generator=draws, return_dict=False)[0]
    assert 0.48 < x.std() < 0.54


def test_a_folder_may_name_the_schedulers_that_can_be_asked_for():
    allowed = {f"{name}Scheduler" for name in folder.SCHEDULER_NAMES}
    assert {*schedulers.DIFFUSION_SCHEDULERS} | {*schedulers.FLOW_SCHEDULERS} == allowed
    assert list(schedulers.DIFFUSION_SCHEDULERS) == sorted(schedulers.DIFFUSION_SCHEDULERS)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
@pytest.mark.parametrize("name", schedulers.DIFFUSION_SCHEDULERS)
def test_every_class_name_that_runs_an_eps_model_makes_its_scheduler(name):
    if name in NEED_TORCHSDE:
        pytest.importorskip("torchsde")
    if name == "LMSDiscreteScheduler":
        pytest.importorskip("scipy")
    made = schedulers.make_scheduler(name, tiny.make_scheduler("epsilon"), flow=False)
    assert type(made).__name__ == name
    schedulers.check_scheduler(made, flow=False, seeded=False)
    assert schedulers.set_steps(made, 8, timesteps=None, sigmas=None, device=CPU) == 8


def test_a_run_gives_each_picture_a_scheduler_unless_one_draws_for_all():
    scheduler, generator = tiny.make_scheduler("epsilon"), torch.Generator()
    scheduler.set_timesteps(4)
    each = schedulers.one_each(scheduler, 3, generator=[generator] * 3)
    assert len({id(one) for one in each}) == 3 and each[0] is scheduler
    assert schedulers.one_each(scheduler, 3, generator=generator) == [scheduler]


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
@pytest.mark.parametrize("name", sorted({*schedulers.NOT_FOR_X0} - NEED_TORCHSDE))
def test_a_model_that_predicts_the_picture_is_refused_where_a_step_would_fail(name):
    scheduler = getattr(diffusers, name)()
    schedulers.check_scheduler(scheduler, flow=False)
    scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ValueError, match="prediction_type='sample': use one of .*DDIMScheduler, DDPM"):
        schedulers.check_scheduler(scheduler, flow=False)
    scheduler.set_timesteps(4)
    latents = torch.zeros(1, 4, 8, 8)
    t = scheduler.timesteps[0]
    with pytest.raises((NotImplementedError, ValueError)):
        scheduler.step(latents, t, scheduler.scale_model_input(latents, t))


def test_a_model_that_predicts_the_picture_runs_under_those_that_are_named():
    latents = torch.ones(1, 4, 8, 8)
    # CMStochasticIterativeScheduler has no such setting: it takes any prediction for the picture.
    left_out = {*schedulers.NOT_FOR_X0, "LMSDiscreteScheduler", "CMStochasticIterativeScheduler"}
    for name in {*schedulers.DIFFUSION_SCHEDULERS} - left_out:
        scheduler = getattr(diffusers, name)(prediction_type="sample")
        schedulers.check_scheduler(scheduler, flow=False)
        scheduler.set_timesteps(4)
        t = scheduler.timesteps[0]
        assert torch.isfinite(scheduler.step(latents, t, latents, return_dict=False)[0]).all()


def test_other_families_and_unknown_predictions_are_refused_for_an_eps_model():
    with pytest.raises(ValueError, match="LTXEulerAncestralRFScheduler cannot run an eps or v model"):
        schedulers.check_scheduler(diffusers.LTXEulerAncestralRFScheduler(), flow=False)
    odd: Any = diffusers.DDIMScheduler(prediction_type="x1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="DDIMScheduler cannot run prediction_type='x1'"):
        schedulers.check_scheduler(odd, flow=False)


def test_the_copy_for_inpainting_is_corrected_as_diffusers_corrects_it():
    old: Any = diffusers.DDIMScheduler(steps_offset=0, clip_sample=True)
    run = schedulers.scheduler_for_run(old, as_in_inpainting=True)
    assert (run.config.steps_offset, run.config.clip_sample) == (1, True)
    prk: Any = diffusers.PNDMScheduler(skip_prk_steps=False)
    assert schedulers.scheduler_for_run(prk, as_in_inpainting=True).config.skip_prk_steps is True
    assert schedulers.scheduler_for_run(prk).config.skip_prk_steps is False


def test_own_sigmas_are_computed_with_as_an_array():
    unipc = prepared("unipc", flow=True)
    assert schedulers.set_steps(unipc, 50, timesteps=None, sigmas=(1.0, 0.6, 0.2), device=CPU) == 3
    torch.testing.assert_close(unipc.sigmas, torch.tensor([1.0, 0.6, 0.2, 0.0]), rtol=0, atol=1e-5)


def test_stochastic_dpm_of_the_first_kind_repeats_no_seed():
    if importlib.util.find_spec("torchsde") is None:
        with pytest.raises(ValueError, match="'DPM.. SDE' needs torchsde: run `pip install torchsde`"):
            schedulers.make_scheduler("DPM++ SDE", tiny.make_scheduler("epsilon"), flow=False)
        return
    scheduler = schedulers.make_scheduler("DPM++ SDE", tiny.make_scheduler("epsilon"), flow=False)
    schedulers.check_scheduler(scheduler, flow=False, seeded=False)
    with pytest.raises(ValueError, match="takes its noise from noise_sampler_seed in its config"):
        schedulers.check_scheduler(scheduler, flow=False)
