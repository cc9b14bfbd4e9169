"""What a seed means: diffusers' CPU generator, one per picture, drawn from in float32 whatever computes.

Knows nothing of batches (test_promise_levels) and of threads and machines (test_promise_processes).
"""

# pyright: reportPrivateImportUsage=false

import copy
import importlib.util
import inspect
from typing import Any

import diffusers
import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ldm_pipeline import LatentDiffusionPipeline, folder, schedulers
from ldm_pipeline.latents import picture_to_latents
from ldm_pipeline.noise import Float32Draws, draw_noise, generators_for
from tests import tiny
from tests.side_by_side import BETAS, SETTINGS, TOLERANCE, draw, inputs, ours, theirs

LARGEST = 2**32 - 1
TASKS = ["noise", "picture", "mask"]
DRAWS = ("rand", "normal", "uniform", "bernoulli", "exponential", "multinomial", "dropout")
"""Parts of the names of torch's operations that draw."""
FLOW_MATCH = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete")
TORCHSDE = ("CosineDPMSolverMultistep", "DPMSolverSDE")
KINDS = [name for name in folder.SCHEDULER_NAMES if name not in FLOW_MATCH]

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]


class Drawn(TorchDispatchMode):
    """Notes every operation that draws: (its name, whether by a generator, number type, device)."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[tuple[str, bool, torch.dtype, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        if any(part in name for part in DRAWS) and name not in ("dropout_", "native_dropout"):
            by_generator = (kwargs or {}).get("generator") is not None
            self.draws.append((name, by_generator, answer.dtype, answer.device.type))
        return answer


def scheduler(name: str, **config: Any) -> Any:
    """A scheduler by its short class name, with Stable Diffusion's betas where it has any."""
    if name in TORCHSDE and importlib.util.find_spec("torchsde") is None:
        pytest.skip("torchsde is not installed")
    if name == "LMSDiscrete":
        pytest.importorskip("scipy")
    cls = getattr(diffusers, f"{name}Scheduler")
    known = inspect.signature(cls.__init__).parameters
    return cls(**{key: value for key, value in {**BETAS, **config}.items() if key in known})


def pipe_with(parts: dict[str, Any], name: str, **config: Any) -> Any:
    return ours(parts, scheduler(name, **config))


@pytest.fixture(scope="module")
def flow_pipe() -> Any:
    return tiny.make_pipeline()


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return tiny.make_stable_diffusion_components()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["EulerAncestralDiscrete", "DPMSolverMultistep"])
def test_a_seed_is_diffusers_generator_with_that_seed(parts, name, task):
    settings: dict[str, Any] = {**SETTINGS, **inputs(task, (72, 56)), "num_inference_steps": 3}
    own: dict[str, Any] = {"blend": "none"} if task == "mask" else {}
    drawn = draw(ours(parts, scheduler(name)), **settings, **own, seed=7)
    rival = draw(theirs(parts, scheduler(name), task), **settings, generator=Generator("cpu").manual_seed(7))
    assert abs(drawn.pictures - rival.pictures).max() < TOLERANCE
    other = draw(ours(parts, scheduler(name)), **settings, **own, seed=8)
    assert abs(other.pictures - rival.pictures).max() > 100 * TOLERANCE


def test_without_guidance_the_bits_are_diffusers(parts):
    settings = {**SETTINGS, **inputs("noise", (72, 56)), "num_inference_steps": 3, "guidance_scale": 1.0}
    drawn = draw(ours(parts, scheduler("EulerAncestralDiscrete")), **settings, seed=7)
    rival = draw(
        theirs(parts, scheduler("EulerAncestralDiscrete"), "noise"),
        **settings,
        generator=Generator("cpu").manual_seed(7),
    )
    assert torch.equal(drawn.latents, rival.latents)


def test_pictures_count_up_from_the_seed_prompt_by_prompt(flow_pipe):
    settings: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}
    found = flow_pipe(["paris", "rome"], num_images_per_prompt=2, seed=LARGEST - 3, **settings)
    assert found.seeds == tuple(range(LARGEST - 3, LARGEST + 1))
    third = flow_pipe("rome", seed=LARGEST - 1, **settings).images
    assert torch.equal(found.images[2:3], third)


@pytest.mark.parametrize(
    ("seed", "count", "words"),
    [
        (LARGEST, 2, f"seed={LARGEST} leaves no seeds for 2 pictures: use at most {LARGEST - 1}"),
        (LARGEST + 1, 1, f"seed={LARGEST + 1} is not allowed: use a whole number from 0 to {LARGEST}"),
        (-1, 1, "seed=-1 is not allowed"),
        (7.0, 1, "seed=7.0 is not allowed"),
        ([7, LARGEST + 1], 2, f"seed={LARGEST + 1} is not allowed"),
    ],
)
def test_a_seed_outside_of_its_range_is_an_error_before_anything_is_drawn(flow_pipe, seed, count, words):
    with pytest.raises(ValueError) as caught:
        flow_pipe("paris", seed=seed, num_images_per_prompt=count)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_larger_seed_would_repeat_a_smaller_one():
    low, high = (torch.randn(8, generator=Generator("cpu").manual_seed(s)) for s in (7, 7 + 2**32))
    assert torch.equal(low, high), "torch no longer wraps at 2^32: the range may grow"


def test_the_global_seed_changes_nothing_and_the_docstring_says_so(flow_pipe):
    assert "`torch.manual_seed` has no effect" in str(inspect.getdoc(LatentDiffusionPipeline.__call__))
    found = []
    for number in (1, 2):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(number)
            found.append(flow_pipe("paris", seed=7, num_inference_steps=2, output_type="pt").images)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("side", [16, 65, 71, 3])
def test_noise_of_any_number_type_is_the_float32_noise_rounded(dtype, side):
    shape = (1, 4, side, side)
    expected = torch.randn(shape, generator=Generator("cpu").manual_seed(7))
    assert torch.equal(
        draw_noise(shape, generators_for([7]), dtype=dtype, device=torch.device("cpu")), expected.to(dtype)
    )
    with Float32Draws():
        drawn = torch.randn(shape, generator=Generator("cpu").manual_seed(7), dtype=dtype)
    assert torch.equal(drawn, expected.to(dtype))


@torch.no_grad()
def test_noise_is_drawn_on_the_cpu_for_a_pipeline_on_another_device():
    meta = torch.device("meta")
    euler = scheduler("EulerAncestralDiscrete")
    euler.set_timesteps(3)
    with Drawn() as seen, Float32Draws():
        noise = draw_noise((2, 4, 9, 9), generators_for([7, 8]), dtype=torch.float16, device=meta)
        euler.step(noise, euler.timesteps[0], noise, generator=generators_for([7, 8]))
    assert noise.device.type == "meta"
    assert len(seen.draws) == 4 and {draw[1:] for draw in seen.draws} == {(True, torch.float32, "cpu")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*KINDS, "dpm++ 2m sde"])
def test_every_draw_of_every_scheduler_is_float32_on_the_cpu_by_a_generator(parts, name, dtype):
    """9 x 7 x 4 numbers are no multiple of 16, where other number types give other noise."""
    config: dict[str, Any] = {}
    if name == "dpm++ 2m sde":
        name, config = "DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}
    pipe = pipe_with({key: _typed(part, dtype) for key, part in parts.items()}, name, **config)
    how: dict[str, Any] = {"seed": 7} if name != "DPMSolverSDE" else {"generator": generators_for([7])}
    with Drawn() as seen:
        drawn = pipe("paris", **inputs("picture", (72, 56)), **how, num_inference_steps=4, eta=0.5).images
    assert len(drawn) == 1 and len(seen.draws) >= 2, "the VAE's posterior and the noise, at least"
    assert {draw[1:] for draw in seen.draws if draw[2] != torch.int64} == {(True, torch.float32, "cpu")}
    assert all(by_generator for _, by_generator, _, _ in seen.draws), "whole numbers, too"


def _typed(part: Any, dtype: torch.dtype) -> Any:
    return copy.deepcopy(part).to(dtype) if isinstance(part, torch.nn.Module) else part


@torch.no_grad()
def test_the_posterior_is_drawn_in_float32_in_half_precision_too():
    vae: Any = tiny.make_vae()
    vae.to(torch.bfloat16)
    picture = torch.rand(1, 3, 72, 56, generator=Generator("cpu").manual_seed(1))

    def sampled() -> Tensor:
        return picture_to_latents(vae, picture, generators_for([7]), device=torch.device("cpu"))

    posterior = vae.encode((2 * picture - 1).to(torch.bfloat16)).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=Generator("cpu").manual_seed(7))
    expected = (posterior.mean + posterior.std * noise.to(torch.bfloat16)) * vae.config["scaling_factor"]
    assert torch.equal(sampled(), expected)


def test_a_scheduler_that_takes_no_generator_is_refused_with_a_seed_and_runs_with_a_generator(parts):
    pipe = pipe_with(parts, "DPMSolverSDE", noise_sampler_seed=3)
    with pytest.raises(ValueError) as caught:
        pipe("paris", seed=7, num_inference_steps=2)
    told = str(caught.value)
    assert told.startswith("DPMSolverSDEScheduler takes its noise from noise_sampler_seed")
    assert "\n" not in told
    for other in ("EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"):
        assert other in told and other in schedulers.DIFFUSION_SCHEDULERS
    settings = {**SETTINGS, **inputs("noise"), "num_images_per_prompt": 2}
    drawn = draw(pipe, **settings, generator=generators_for([7, 8]))
    rival = draw(theirs(parts, pipe.scheduler, "noise"), **settings, generator=generators_for([7, 8]))
    assert abs(drawn.pictures - rival.pictures).max() < TOLERANCE


def test_it_repeats_by_the_generator_where_its_config_fixes_no_seed(parts):
    pipe = pipe_with(parts, "DPMSolverSDE")

    def drawn(*numbers: int) -> Tensor:
        settings: dict[str, Any] = {"num_inference_steps": 3, "output_type": "pt"}
        given = generators_for(numbers)
        return pipe("paris", generator=given, num_images_per_prompt=len(numbers), **settings).images

    both = drawn(7, 8)
    assert torch.equal(both, drawn(7, 8))
    assert torch.equal(both[1:], drawn(8)), "a picture's noise is its own"
    assert not torch.allclose(both[:1], both[1:])


def test_a_scheduler_that_draws_on_its_device_is_refused_with_a_seed_there():
    cosine = diffusers.CosineDPMSolverMultistepScheduler(prediction_type="epsilon")
    schedulers.check_scheduler(cosine, flow=False, device=torch.device("cpu"))
    schedulers.check_scheduler(cosine, flow=False, seeded=False, device=torch.device("cuda"))
    with pytest.raises(ValueError, match="draws its noise on cuda, where a seed means other noise"):
        schedulers.check_scheduler(cosine, flow=False, device=torch.device("cuda"))
