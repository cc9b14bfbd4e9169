"""Few steps: what the network must say to land where the long schedule does, and an adapter that says it."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.loading import load_pipeline
from ldm_pipeline.request import GenerationDefaults
from tests import tiny
from training import few_steps
from training.__main__ import main
from training.bases import Base, open_base
from training.few_steps import FewStepsObjective, FewStepsRun, laid_out, wanted_outputs
from training.loop import averaged_weights
from training.lora import KOHYA_WEIGHTS, WEIGHTS, LoraShape
from training.parts import write_known_words
from training.recipes import SMOKE
from training.targets import matching_scheduler

# The tiny tokenizer spells, so that captions do not fit.
pytestmark = pytest.mark.filterwarnings("ignore:the prompt is too long:UserWarning")

RUN = replace(SMOKE.few_steps, steps=2, parts=2, paths=6, held_out_paths=3, lora=LoraShape(rank=4, alpha=4))
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
SCHEDULERS = {
    "flow, DPM-Solver++ 2M": matching_scheduler("flow"),
    "eps, DPM-Solver++ 2M": matching_scheduler("epsilon"),
    "v, DPM-Solver++ 2M": matching_scheduler("v"),
    "flow, UniPC": UniPCMultistepScheduler(**FLOW),
    "eps, DDIM": DDIMScheduler(timestep_spacing="trailing", clip_sample=False),
}


@pytest.fixture(autouse=True)
def one_process():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tiny.write_folder(tmp_path / "base")
    defaults = GenerationDefaults(num_inference_steps=4, guidance_scale=3.0, height=64, width=64)
    (folder / "generation_defaults.json").write_text(defaults.to_json())
    write_known_words(folder / "tokenizer", SMOKE.world)
    return folder


@pytest.fixture
def base(folder: Path) -> Base:
    base = open_base(str(folder))
    base.pipeline.set_progress_bar_config(disable=True)
    return base


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_network_that_says_what_is_wanted_lands_on_every_stop(name: str):
    """Whatever the path: four random stops are reached by four steps of the scheduler itself."""
    scheduler = SCHEDULERS[name]
    path = torch.randn(3, 5, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted, timesteps = wanted_outputs(scheduler, path)
    run = laid_out(scheduler, 4)
    assert wanted.shape == (3, 4, 2, 4, 4) and torch.equal(timesteps, run.timesteps.float())
    latents = path[:, 0]
    for number, timestep in enumerate(run.timesteps):
        latents = run.step(wanted[:, number], timestep, latents).prev_sample
        torch.testing.assert_close(latents, path[:, number + 1], rtol=1e-3, atol=1e-3)


def test_a_straight_path_wants_its_own_velocity():
    """x_t = (1 - s) x_0 + s e with one velocity e - x_0 everywhere: that is what is wanted in every step."""
    scheduler = matching_scheduler("flow")
    draws = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 2, 1, 4, 4, generator=draws).unbind(0)
    sigmas = laid_out(scheduler, 4).sigmas
    path = torch.stack([(1 - s) * clean + s * noise for s in sigmas], dim=1)
    wanted, _ = wanted_outputs(scheduler, path)
    torch.testing.assert_close(wanted, (noise - clean)[:, None].expand_as(wanted), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "scheduler, words",
    [
        (FlowMatchEulerDiscreteScheduler(), "stops at noise levels that the long one leaves out"),
        (
            DPMSolverMultistepScheduler(**FLOW, algorithm_type="sde-dpmsolver++"),  # type: ignore[arg-type]
            "has no noise levels or draws noise",
        ),
    ],
)
def test_schedules_that_do_not_fit_are_refused(scheduler: Any, words: str):
    with pytest.raises(ValueError, match=words):
        few_steps.check_schedules(scheduler, SMOKE.few_steps)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"guidance_scale": 1.0}, "guidance_scale=1.0 of .*: few steps are learned with guidance"),
        ({"negative_start": 0.25}, "negative_start=0.25 of .*: few steps are learned with the same guidance"),
        ({"guidance_interval": (0.0, 0.7)}, "guidance_interval=.*take it out of the folder's"),
    ],
)
def test_guidance_that_differs_from_step_to_step_is_refused(base: Base, values: dict[str, Any], words: str):
    base.pipeline.generation_defaults = replace(base.pipeline.generation_defaults, **values)
    with pytest.raises(ValueError, match=words):
        few_steps.build_paths(RUN, base, SMOKE.world, stream=1, count=1, folder=Path("nowhere"))


@pytest.mark.parametrize(
    "values, words",
    [({"parts": 1}, "parts=1: must be at least 2"), ({"negative_share": 1.5}, "choose 0 to 1")],
)
def test_numbers_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        FewStepsRun(fit=SMOKE.few_steps.fit, **values)


def test_negative_prompts_are_things_that_the_caption_does_not_name():
    run = replace(RUN, negative_share=0.5)
    prompts, negatives = few_steps.prompts_of(SMOKE.world, run, stream=3, first=0, last=200)
    assert few_steps.prompts_of(SMOKE.world, run, stream=3, first=50, last=60) == (
        prompts[50:60],
        negatives[50:60],
    )
    told = [(prompt, negative) for prompt, negative in zip(prompts, negatives, strict=True) if negative]
    assert 60 < len(told) < 100 and {negative for _, negative in told} == set(SMOKE.world.kinds)
    assert not any(negative in prompt.lower() for prompt, negative in told)


def test_paths_stop_where_the_pipeline_does_and_begin_in_noise(base: Base, tmp_path: Path):
    data = few_steps.build_paths(RUN, base, SMOKE.world, stream=1, count=4, folder=tmp_path / "cache")
    assert data.latents.shape == (4, 3, 8, 8, 8) and data.states.shape == (4, 2, 77, 32)
    latents = torch.from_numpy(data.latents[:].copy()).float()
    assert 0.9 < float(latents[:, 0].std()) < 1.1
    drawn = few_steps.drawn_from(base.pipeline, data.prompts, data.negatives, latents[:, 0], steps=4)
    torch.testing.assert_close(drawn, latents[:, -1], rtol=5e-3, atol=5e-3)
    again = few_steps.build_paths(RUN, base, SMOKE.world, stream=1, count=4, folder=tmp_path / "cache")
    assert again.key == data.key and (again.latents == data.latents).all()
    other = few_steps.build_paths(RUN, base, SMOKE.world, stream=2, count=4, folder=tmp_path / "cache")
    assert other.key != data.key


def test_the_objective_is_zero_for_what_the_pipeline_predicts(base: Base, tmp_path: Path):
    """Stops of a long schedule that is the short one are where the network itself lands."""
    run = replace(RUN, steps=4, parts=2)
    data = few_steps.build_paths(run, base, SMOKE.world, stream=1, count=3, folder=tmp_path)
    noise = torch.from_numpy(data.latents[:, 0].copy()).float()
    stops = [noise]

    def stop(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        stops.append(tensors["latents"])
        return tensors

    few_steps.drawn_from(base.pipeline, data.prompts, data.negatives, noise, steps=4, each_step=stop)
    own = replace(data, latents=torch.stack(stops, dim=1).numpy())
    objective = FewStepsObjective(base.pipeline.unet, guidance_scale=3.0)
    for step in range(2):
        batch = few_steps.training_batch(run, own, base.pipeline.scheduler, step)
        with torch.no_grad():
            assert float(objective(batch)["loss"]) < 1e-4 * float(batch["wanted"].square().mean())
        batch["states"] = batch["states"].flip(1)  # the negative prompt in the prompt's place
        with torch.no_grad():
            assert float(objective(batch)["loss"]) > 1e-3 * float(batch["wanted"].square().mean())


def test_the_adapter_learns_to_land_where_many_steps_do(base: Base, tmp_path: Path, accelerator: Accelerator):
    fit = replace(RUN.fit, total_steps=60, batch_size=12, save_every_steps=60)
    run = replace(RUN, fit=replace(fit, optimizer=replace(fit.optimizer, learning_rate=1e-2)))
    data = few_steps.build_paths(run, base, SMOKE.world, stream=1, count=6, folder=tmp_path)
    before, _ = few_steps.landing_error(base, data, steps=run.steps)
    frozen = {name: value.clone() for name, value in base.pipeline.unet.state_dict().items()}
    objective = few_steps.build_objective(run, base)
    progresses = list(
        few_steps.train(
            run,
            objective,
            data,
            base.pipeline.scheduler,
            run_folder=tmp_path / "run",
            accelerator=accelerator,
        )
    )
    losses = [progress.losses["loss"] for progress in progresses]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    with progresses[-1].averaged():
        after, drawn = few_steps.landing_error(base, data, steps=run.steps)
    assert after < 0.7 * before and drawn.shape == (6, 8, 8, 8)
    held = {name.replace(".base_layer", ""): value for name, value in base.pipeline.unet.state_dict().items()}
    assert all(torch.equal(held[name], value) for name, value in frozen.items())


def test_the_command_delivers_a_lora_that_the_pipeline_opens(folder: Path, tmp_path: Path):
    words = ["few_steps", "--recipe", "smoke", "--runs", str(tmp_path / "runs"), "--init-from", str(folder)]
    for setting in (
        "steps=2",
        "parts=2",
        "paths=4",
        "held_out_paths=2",
        "lora.targets=to_q,to_v",
        "lora.rank=2",
    ):
        words += ["--set", f"few_steps.{setting}"]
    words += ["--set", "few_steps.fit.batch_size=4", "--set", "few_steps.fit.optimizer.learning_rate=0.05"]
    assert main([*words, "--steps", "3", "--precision", "no"]) == 0
    run = tmp_path / "runs" / "smoke" / "few_steps"
    weights, step = averaged_weights(run)
    assert step == 3 and (run / "previews").is_dir()
    card = (run / "final" / "README.md").read_text()
    assert card.startswith("# base in 2 steps") and "num_inference_steps=2" in card
    assert str(tmp_path) not in card

    def drawn(pipeline: Any) -> torch.Tensor:
        return pipeline("a dog", num_inference_steps=2, seed=3, output_type="latent").images

    pipeline = LatentDiffusionPipeline.from_pretrained(folder)
    without = drawn(pipeline)
    pipeline.load_lora_weights(run / "final", weight_name=WEIGHTS)
    found = {name: value for name, value in pipeline.unet.named_parameters() if "lora_" in name}
    assert len(found) == len(weights)
    for name, value in found.items():
        end = name.split(".lora_")[0], name.split(".lora_")[1][0]
        (own,) = [w for n, w in weights.items() if end[0] in n and f".lora_{end[1]}" in n]
        assert torch.equal(value, own.half().float())
    assert not torch.allclose(drawn(pipeline), without, atol=1e-4)
    assert pipeline.generation_defaults.num_inference_steps != 2
    for file in (WEIGHTS, KOHYA_WEIGHTS):
        ready = load_pipeline(folder, lora=run / "final" / file, dtype="float32")
        assert ready.generation_defaults.num_inference_steps == 2, "what it was made for"


def test_a_dry_run_tells_what_learns_and_what_is_drawn(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["few_steps", "--recipe", "smoke", "--runs", str(tmp_path / "runs"), "--init-from", str(folder)]
    words += ["--set", "few_steps.lora.targets=to_q,to_v"]
    assert main([*words, "--dry-run"]) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["samples"].startswith("640 in 40 steps of 16")
    assert told["paths"] == "36 drawings of 16 steps are made first"
    assert not (tmp_path / "runs").exists()
