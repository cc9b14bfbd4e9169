"""A picture's settings <-> the text that A1111's web interface writes and most tools read.

It does not know where a text lies in a file. The text is never the record that counts: a prompt may hold a
line that looks like settings. What is read is not trusted.

Civitai takes the first line that starts with "Steps: " for the settings, A1111 and sd-parsers the last.
"""

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import RecipeError, plain_name

# What A1111's web interface, and the tools that read its texts, call our schedulers and their noise levels;
# with a few names that only the others know.
SAMPLER_NAMES = {
    "DDIMScheduler": "DDIM",
    "DEISMultistepScheduler": "DEIS",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "EDMEulerScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "UniPCMultistepScheduler": "UniPC",
}
DPM_DEFAULTS = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
SDE = {**DPM_DEFAULTS, "algorithm_type": "sde-dpmsolver++"}
SAMPLERS_BY_CONFIG: list[tuple[str, dict[str, Any], str]] = [
    ("DPMSolverMultistepScheduler", DPM_DEFAULTS, "DPM++ 2M"),
    ("DPMSolverMultistepScheduler", SDE, "DPM++ 2M SDE"),
    ("DPMSolverMultistepScheduler", {**SDE, "solver_type": "heun"}, "DPM++ 2M SDE Heun"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, "DPM++ 3M SDE"),
    ("DPMSolverSinglestepScheduler", DPM_DEFAULTS, "DPM++ 2S"),
    ("PNDMScheduler", {"skip_prk_steps": True}, "PLMS"),
]
"""Class, what its config has to say, and name. What is none of these has no name there but its class."""
AUTOMATIC_IS_SPACED = {
    *("DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DPM++ SDE", "DPM2", "DPM2 a"),
}
"""Samplers whose schedule type "Automatic" is Karras or Exponential; others' is the model's own levels."""
SCHEDULE_TYPES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}
# A config that was taken over from another scheduler may hold options that its class does not read.
READ_NO_SCHEDULE_TYPE = (
    *("CMStochasticIterative", "CogVideoXDDIM", "CosineDPM", "DDIM", "DDPM", "EDM", "EulerAncestral"),
    *("FlowMatchHeun", "LCM", "PNDM", "TCD"),
)
READ_NO_TIMESTEP_SPACING = ("CMStochasticIterative", "CosineDPM", "DPMSolverSinglestep", "EDM", "FlowMatch")
LARGEST_PARAMETERS_CHARACTERS = 100_000
LONGEST_SETTINGS_LINE = 20_000
SETTING = re.compile(r'([A-Za-z][\w /.-]{0,60}):[ \t]*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
LARGEST_FOREIGN_SEED = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A model, or a LoRA, as another tool names it."""

    name: str
    hash: str = ""
    """As the tool has it, mostly the first ten digits of a SHA-256."""


@dataclass(frozen=True, kw_only=True)
class ForeignRecipe:
    """What another tool says of a picture that it made; nothing in it was checked against anything."""

    tool: str
    """The tool whose form it is, e.g. "A1111" or "ComfyUI"; others write A1111's form too."""
    version: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    """0 to 2^64-1; None where it is missing or no such number."""
    steps: int | None = None
    sampler: str = ""
    """In the tool's own words."""
    schedule: str = ""
    """How noise levels are spaced, in the tool's own words."""
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    strength: float | None = None
    models: tuple[ModelName, ...] = ()
    loras: tuple[ModelName, ...] = ()
    not_understood: tuple[str, ...] = ()
    """Names of what the file says beside this, or of what could not be read."""


def parameters_text(recipe: PictureRecipe) -> str:
    """The recipe in the form of A1111's web interface: prompt, negative prompt, and a line "Steps: ..."."""
    request = recipe.request
    hashes = ", ".join(f"{_in_line(PurePath(lora.name).stem)}: {lora.hash[:12]}" for lora in recipe.loras)
    fields: dict[str, object] = {
        "Steps": request.num_inference_steps,
        "Sampler": sampler_name(recipe),
        "Schedule type": schedule_type(recipe),
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": recipe.seed,
        "Size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "Model hash": recipe.model_hash[:10],
        "Model": _in_line(recipe.model),
        "Denoising strength": None if request.strength is None else f"{request.strength:g}",
        "Clip skip": request.clip_skip + 1 if request.clip_skip else None,  # there 1 leaves out nothing
        "RNG": "CPU" if recipe.seed is not None else None,
        "Lora hashes": f'"{hashes}"' if hashes else None,
        "Version": f"ldm-pipeline {recipe.versions.get('ldm-pipeline', '')}".strip(),
    }
    lines = [_as_prompt(recipe.prompt)]
    if recipe.negative_prompt:
        lines.append(f"Negative prompt: {_as_prompt(recipe.negative_prompt)}")
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items() if value not in (None, "")))
    return "\n".join(lines)


def read_parameters(text: str) -> ForeignRecipe:
    """Reads a text of A1111's form; RecipeError in one line for what is none, or is too long.

    The last line that starts with "Steps:" holds the settings; what stands before it, up to the first line
    that starts with "Negative prompt:", is the prompt.
    """
    if len(text) > LARGEST_PARAMETERS_CHARACTERS:
        raise RecipeError(
            f"parameters has {len(text)} characters; at most {LARGEST_PARAMETERS_CHARACTERS} are read"
        )
    lines = text.strip().split("\n")
    places = [number for number, line in enumerate(lines) if line.startswith("Steps:")]
    if not places:
        raise RecipeError('parameters has no line that starts with "Steps:"')
    if len(lines[places[-1]]) > LONGEST_SETTINGS_LINE:
        raise RecipeError(f"parameters has settings of more than {LONGEST_SETTINGS_LINE} characters")
    told = {name.strip(): _unquoted(value.strip()) for name, value in SETTING.findall(lines[places[-1]])}
    broken: list[str] = ["lines after the settings"] if any(map(str.strip, lines[places[-1] + 1 :])) else []
    before = lines[: places[-1]]
    negative = next((n for n, line in enumerate(before) if line.startswith("Negative prompt:")), len(before))
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", told.pop("Size", ""))
    loras = told.pop("Lora hashes", "")
    found: dict[str, Any] = {
        "seed": read_number(told, "Seed", broken, whole=True, largest=LARGEST_FOREIGN_SEED),
        "steps": read_number(told, "Steps", broken, whole=True, largest=1e6),
        "guidance_scale": read_number(told, "CFG scale", broken, largest=1e6),
        "strength": read_number(told, "Denoising strength", broken, largest=1.0),
        "width": int(size[1]) if size else None,
        "height": int(size[2]) if size else None,
        "version": plain_name(told.pop("Version", "")),
        "sampler": plain_name(told.pop("Sampler", "")),
        "schedule": plain_name(told.pop("Schedule type", "")),
    }
    model, model_hash = told.pop("Model", ""), told.pop("Model hash", "")
    return ForeignRecipe(
        tool="A1111",
        prompt="\n".join(before[:negative]).strip(),
        negative_prompt="\n".join(before[negative:]).removeprefix("Negative prompt:").strip(),
        models=(ModelName(name=plain_name(model), hash=plain_name(model_hash)),)
        if model or model_hash
        else (),
        loras=tuple(
            ModelName(name=plain_name(name), hash=plain_name(content))
            for name, content in re.findall(r"([^,:\s][^,:]*):\s*([0-9A-Za-z]+)", loras)
        ),
        not_understood=tuple(map(plain_name, (*told, *broken)))[:100],
        **found,
    )


def read_number(
    told: dict[str, Any], name: str, broken: list[str], *, whole: bool = False, largest: float
) -> Any:
    """Takes a number from 0 to `largest` out of what was told; None, and a line in `broken`, for others."""
    value = told.pop(name, None)
    if value is None:
        return None
    try:
        number = int(str(value)[:30]) if whole else float(str(value)[:30])
        if 0 <= number <= largest:
            return number
    except ValueError:
        pass
    broken.append(f"{name} is {str(value)[:60]}")
    return None


def sampler_name(recipe: PictureRecipe) -> str:
    """A1111's name of the scheduler; its class name where A1111 has none."""
    config = {**DPM_DEFAULTS, **recipe.scheduler_config}
    for class_name, wanted, name in SAMPLERS_BY_CONFIG:
        if class_name == recipe.scheduler and all(config.get(key) == value for key, value in wanted.items()):
            return name
    return SAMPLER_NAMES.get(recipe.scheduler, recipe.scheduler)


def schedule_type(recipe: PictureRecipe) -> str | None:
    """A1111's name of how noise levels are spaced, as it writes it since 1.9; None where it has none."""
    scheduler, config, request = recipe.scheduler, recipe.scheduler_config, recipe.request
    if not scheduler or request.timesteps or request.sigmas:
        return None
    if not scheduler.startswith(READ_NO_SCHEDULE_TYPE):
        for option, name in SCHEDULE_TYPES.items():
            if config.get(option):
                return name
    if scheduler.startswith("EDM"):
        return "Exponential" if config.get("sigma_schedule") == "exponential" else "Karras"
    if scheduler == "DPMSolverMultistepScheduler" and config.get("use_lu_lambdas"):
        return None
    reads_spacing = not scheduler.startswith(READ_NO_TIMESTEP_SPACING) and not config.get("use_flow_sigmas")
    if reads_spacing and config.get("timestep_spacing") == "trailing":
        return "SGM Uniform"
    return "Uniform" if sampler_name(recipe) in AUTOMATIC_IS_SPACED else "Automatic"


def _in_line(text: str) -> str:
    """A name as it can stand in the line of settings, where commas and quotes have a meaning."""
    return re.sub(r'[",:]', " ", text)


def _as_prompt(text: str) -> str:
    """A prompt whose lines no reader takes for the settings: a line that starts like them gets a space."""
    return re.sub(r"^(?=Steps:)", " ", text, flags=re.MULTILINE)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return read if isinstance(read, str) else value
