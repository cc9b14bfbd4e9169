"""A1111's text is what other tools expect, and comes back; schedulers have the names that A1111 gives them.

It draws nothing. sd-parsers reads the texts too, as a reader that was not written here.
"""

# pyright: reportPrivateImportUsage=false

import inspect
from typing import Any

import diffusers
import pytest
from sd_parsers.parsers import AUTOMATIC1111Parser

from ldm_pipeline import folder, schedulers
from ldm_pipeline.parameters import (
    ModelName,
    parameters_text,
    read_parameters,
    sampler_name,
    schedule_type,
)
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import LoraRecord, RecipeError, json_value
from ldm_pipeline.request import GenerationRequest
from tests import tiny

REQUEST = GenerationRequest(
    prompts=("Paris on a rainy day",),
    negative_prompts=("umbrella",),
    seeds=(7,),
    num_inference_steps=14,
    guidance_scale=4.0,
    width=128,
    height=96,
    clip_skip=1,
)
RECIPE = PictureRecipe(
    request=REQUEST,
    model='post,cards "2"',
    model_hash="ab" * 32,
    loras=(LoraRecord(name="ink.safetensors", hash="cd" * 32), LoraRecord(name="x", hash="ef" * 32)),
    scheduler="UniPCMultistepScheduler",
    versions={"ldm-pipeline": "0.1.0"},
)


def test_the_text_is_what_other_tools_expect():
    assert parameters_text(RECIPE).split("\n") == [
        "Paris on a rainy day",
        "Negative prompt: umbrella",
        "Steps: 14, Sampler: UniPC, Schedule type: Automatic, CFG scale: 4, Seed: 7, Size: 128x96, "
        "Model hash: ababababab, Model: post cards  2 , Clip skip: 2, RNG: CPU, "
        'Lora hashes: "ink: cdcdcdcdcdcd, x: efefefefefef", Version: ldm-pipeline 0.1.0',
    ]
    assert parameters_text(PictureRecipe(request=GenerationRequest(prompts=("a",)))).startswith(
        "a\nSteps: 50"
    )


def test_the_text_comes_back():
    told = read_parameters(parameters_text(RECIPE))
    assert (told.prompt, told.negative_prompt, told.seed) == ("Paris on a rainy day", "umbrella", 7)
    assert (told.steps, told.guidance_scale, told.width, told.height) == (14, 4.0, 128, 96)
    assert (told.sampler, told.schedule, told.version) == ("UniPC", "Automatic", "ldm-pipeline 0.1.0")
    assert told.models == (ModelName(name="post cards  2", hash="ababababab"),)
    assert told.loras == (
        ModelName(name="ink", hash="cdcdcdcdcdcd"),
        ModelName(name="x", hash="efefefefefef"),
    )
    assert told.not_understood == ("Clip skip", "RNG")


@pytest.mark.parametrize(
    "prompt", ["Steps: 99, Sampler: Euler, CFG scale: 1, Seed: 1", "a\nSteps: 99\nb", "Été ☃\n\nc"]
)
def test_a_prompt_that_looks_like_settings_changes_no_setting(prompt: str):
    recipe = PictureRecipe(
        request=GenerationRequest(prompts=(prompt,), seeds=(7,)), scheduler="DDIMScheduler", model="m"
    )
    text = parameters_text(recipe)
    told = read_parameters(text)
    assert (told.seed, told.steps, told.sampler) == (7, 50, "DDIM")
    assert told.prompt.replace("\n Steps", "\nSteps") == prompt
    civitais = next(line for line in text.split("\n") if line.startswith("Steps: "))
    assert civitais.startswith("Steps: 50, ")
    (sampler,) = AUTOMATIC1111Parser().parse({"parameters": text}).samplers
    assert sampler.parameters["seed"] == "7" and sampler.name == "DDIM"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nSteps: 20, Seed: -1", ("Seed is -1",)),
        ("a\nSteps: many, Seed: 1", ("Steps is many",)),
        ("a\nSteps: 1, CFG scale: nan", ("CFG scale is nan",)),
        ("a\nSteps: 1, CFG scale: 1e999", ("CFG scale is 1e999",)),
        ('a\nSteps: 1, Hires: "x, y", Eta: 1', ("Hires", "Eta")),
        ("a\nSteps: 1\nTemplate: b", ("lines after the settings",)),
    ],
)
def test_what_is_not_understood_is_named(text: str, told: tuple[str, ...]):
    read = read_parameters(text)
    assert tuple(name.replace("_", ":") for name in read.not_understood) == told
    assert read.prompt == "a"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no line"),
        ("a prompt", "no line"),
        ("x" * 200_000, "characters"),
        ("Steps: 1" * 9_000, "settings"),
    ],
    ids=["empty", "prompt", "long", "long line"],
)
def test_what_is_no_such_text_is_one_line(text: str, complaint: str):
    with pytest.raises(RecipeError, match=complaint) as caught:
        read_parameters(text)
    assert "\n" not in str(caught.value)


def test_names_in_a_text_are_no_paths():
    told = read_parameters("a\nSteps: 1, Model: ../../etc/passwd, Model hash: C:\\x, Sampler: a/b")
    assert (told.models[0].name, told.models[0].hash, told.sampler) == ("passwd", "x", "b")


def recipe_of(scheduler: Any, **settings: Any) -> PictureRecipe:
    """As `saving.py` makes it of a pipeline's scheduler."""
    config = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return PictureRecipe(
        request=GenerationRequest(**settings),
        scheduler=type(scheduler).__name__,
        scheduler_config=json_value(config),
    )


LEVELS = {"karras": "Karras", "exponential": "Exponential", "beta": "Beta", "sgm uniform": "SGM Uniform"}
CALLED = {
    "dpm++ 2m": ("DPM++ 2M", "Uniform"),
    "dpm++ 2m sde": ("DPM++ 2M SDE", "Uniform"),
    "dpm++ 3m sde": ("DPM++ 3M SDE", "Uniform"),
    "dpm++ sde": ("DPM++ SDE", "Uniform"),
    "dpm2": ("DPM2", "Uniform"),
    "dpm2 a": ("DPM2 a", "Uniform"),
    "dpm++ 2s": ("DPM++ 2S", "Automatic"),
    "euler": ("Euler", "Automatic"),
    "euler a": ("Euler a", "Automatic"),
    "heun": ("Heun", "Automatic"),
    "lms": ("LMS", "Automatic"),
    "unipc": ("UniPC", "Automatic"),
    "ddim": ("DDIM", "Automatic"),
    "plms": ("PLMS", "Automatic"),
    "lcm": ("LCM", "Automatic"),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")  # numpy 2
@pytest.mark.parametrize("words", CALLED)
@pytest.mark.parametrize("level", ["normal", *LEVELS])
def test_a_scheduler_made_by_a1111s_words_is_called_by_them(words: str, level: str):
    if words == "lms" or level == "beta":
        pytest.importorskip("scipy")
    if words == "dpm++ sde":
        pytest.importorskip("torchsde")
    name, plain = CALLED[words]
    try:
        made = schedulers.make_scheduler(f"{words} {level}", tiny.make_scheduler("epsilon"), flow=False)
    except ValueError as error:
        assert "knows no use_" in str(error)
        return
    recipe = recipe_of(made, prompts=("a",))
    if words == "dpm++ 2s" and level == "sgm uniform":
        level = "normal"  # its class reads no timestep_spacing
    assert (sampler_name(recipe), schedule_type(recipe)) == (name, LEVELS.get(level, plain))
    line = parameters_text(recipe).split("\n")[-1]
    assert line.startswith(
        f"Steps: 50, Sampler: {name}, Schedule type: {LEVELS.get(level, plain)}, CFG scale:"
    )


@pytest.mark.parametrize("name", folder.SCHEDULER_NAMES)
def test_a_schedule_type_is_told_only_where_the_scheduler_reads_the_option(name: str):
    cls = getattr(diffusers.schedulers, f"{name}Scheduler")
    for option, value, told in (
        ("use_karras_sigmas", True, "Karras"),
        ("use_beta_sigmas", True, "Beta"),
        ("timestep_spacing", "trailing", "SGM Uniform"),
    ):
        recipe = PictureRecipe(
            request=GenerationRequest(), scheduler=cls.__name__, scheduler_config={option: value}
        )
        reads = option in inspect.signature(cls.__init__).parameters
        if not name.startswith("EDM"):  # whose levels are Karras' without any option
            assert (schedule_type(recipe) == told) == reads, option


@pytest.mark.parametrize(
    ("class_name", "config", "name"),
    [
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 3}, None),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, None),
        ("DPMSolverMultistepScheduler", {"algorithm_type": ["dpmsolver++"]}, None),
        ("DPMSolverMultistepScheduler", {"solver_type": "heun"}, None),
        (
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
            "DPM++ 2M SDE Heun",
        ),
        ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}, None),
        ("PNDMScheduler", {"skip_prk_steps": False}, None),
        ("SASolverScheduler", {}, None),
        ("FlowMatchHeunDiscreteScheduler", {}, "Heun"),
    ],
)
def test_a_scheduler_without_a_name_in_a1111_is_called_by_its_class(class_name, config, name):
    recipe = PictureRecipe(request=GenerationRequest(), scheduler=class_name, scheduler_config=config)
    assert sampler_name(recipe) == (name or class_name)


def test_noise_levels_that_have_no_name_are_not_named():
    flow = tiny.make_scheduler("flow_prediction")
    assert schedule_type(recipe_of(flow)) == "Uniform"
    assert schedule_type(recipe_of(flow, timesteps=(900, 500))) is None
    assert schedule_type(recipe_of(diffusers.EulerDiscreteScheduler(), sigmas=(5.0, 1.0))) is None
    assert schedule_type(recipe_of(diffusers.DPMSolverMultistepScheduler(use_lu_lambdas=True))) is None
    assert (
        schedule_type(recipe_of(diffusers.EDMEulerScheduler(sigma_schedule="exponential"))) == "Exponential"
    )
    assert schedule_type(recipe_of(diffusers.EDMEulerScheduler())) == "Karras"
    assert schedule_type(PictureRecipe(request=GenerationRequest())) is None
