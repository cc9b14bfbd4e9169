"""A picture file of another tool (A1111, ComfyUI, InvokeAI, Fooocus, NovelAI) -> what it says made it.

It knows no pixels and draws nothing. Files are not trusted: sd-parsers, which knows the tools' forms, gets
bounded texts and never the file, and whatever it gives back or raises is checked here.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ldm_pipeline.containers import PictureTexts
from ldm_pipeline.parameters import (
    LARGEST_FOREIGN_SEED,
    ForeignRecipe,
    ModelName,
    read_number,
    read_parameters,
)
from ldm_pipeline.picture_files import carries_recipe, picture_texts, recipe_in
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import RecipeError, plain_name, read_json, short

LARGEST_GRAPH_CHARACTERS = 2_000_000
LARGEST_SETTINGS_CHARACTERS = 500_000
LARGEST_DREAM_CHARACTERS = 10_000
MOST_NODES = 1_000
MOST_LINKS = 4_000
SAMPLER_TYPES = ("WanVideoSampler",)
MOST_SAMPLERS = 8
"""sd-parsers follows a ComfyUI graph from each sampler to its ends, in time that grows with their product."""
LONGEST_PROMPT = 100_000
LARGEST_SIDE = 65_536
MOST_NAMES = 100


def read_made_by(path: str | os.PathLike[str]) -> PictureRecipe | ForeignRecipe:
    """Reads what a PNG, JPEG or WebP file says made the picture: our recipe, or another tool's settings.

    A file that carries a recipe of ours is read as ours alone, whatever else it says.

    Raises:
        RecipeError: in one line, when the file is no such picture, says nothing of the kind, or says it in a
            form that cannot be read.
        OSError: when the file cannot be read.
    """
    name = os.path.basename(os.fspath(path))
    texts = picture_texts(path)
    if carries_recipe(texts):
        return recipe_in(texts, name)
    try:
        found = foreign_recipe(texts)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
    if found is None:
        damage = f" (damaged: {short(texts.damage[0])})" if texts.damage else ""
        raise RecipeError(f"{name} carries no recipe, of this project or of another tool{damage}")
    return found


def foreign_recipe(texts: PictureTexts) -> ForeignRecipe | None:
    """Finds another tool's form in a file's texts; None where there is none, RecipeError for a broken one."""
    said = texts.texts
    parameters = said.get("parameters") or texts.comment
    if parameters.lstrip().startswith("{"):
        return _by_library("Fooocus", {"parameters": parameters}, LARGEST_SETTINGS_CHARACTERS)
    if parameters:
        return read_parameters(parameters)
    graphs = _graphs(texts)
    if "prompt" in graphs:
        return _by_library("ComfyUI", _bounded_graph(graphs), LARGEST_GRAPH_CHARACTERS)
    for key, largest in (
        ("invokeai_metadata", LARGEST_SETTINGS_CHARACTERS),
        ("sd-metadata", LARGEST_SETTINGS_CHARACTERS),
        ("Dream", LARGEST_DREAM_CHARACTERS),
    ):
        if key in said:
            return _by_library("InvokeAI", {key: said[key]}, largest)
    if {"Comment", "Description", "Source"} <= {*said}:
        told = {key: said[key] for key in ("Comment", "Description", "Source")}
        return _by_library("NovelAI", told, LARGEST_SETTINGS_CHARACTERS)
    return None


def _parser(tool: str) -> Any:
    """sd-parsers' reader of a tool's form; imported here, for the few who need it."""
    from sd_parsers import parsers

    classes = {
        "ComfyUI": parsers.ComfyUIParser,
        "Fooocus": parsers.FooocusParser,
        "InvokeAI": parsers.InvokeAIParser,
        "NovelAI": parsers.NovelAIParser,
    }
    return classes[tool]()


def _by_library(tool: str, told: Mapping[str, Any], largest: int) -> ForeignRecipe:
    """Let sd-parsers read a form, once it is short enough and, where it is JSON, not too deep."""
    for value in told.values():
        if isinstance(value, str):
            if len(value) > largest:
                raise RecipeError(
                    f"{tool}'s settings have {len(value)} characters; at most {largest} are read"
                )
            if value.lstrip().startswith(("{", "[")):
                read_json(value, largest=largest, finite=False)
    try:
        return _checked(tool, _parser(tool).parse(dict(told)))
    except Exception as error:  # a stranger's values meet a library that expects its tool's
        reason = short(error) or type(error).__name__
        raise RecipeError(f"{tool}'s settings cannot be read: {reason}") from None


def _checked(tool: str, found: Any) -> ForeignRecipe:
    """Take what is of the right kind and size out of a library's answer, and name the rest."""
    if not found.samplers:
        raise RecipeError("no sampler was found among them")
    sampler, broken = found.samplers[0], []
    told = {str(name): value for name, value in {**found.metadata, **sampler.parameters}.items()}
    width, height = _size(told, broken)
    others = len(found.samplers) - 1
    checked: dict[str, Any] = {
        "seed": _number(told, ("seed", "noise_seed"), broken, whole=True, largest=LARGEST_FOREIGN_SEED),
        "steps": _number(told, ("steps",), broken, whole=True, largest=1e6),
        "guidance_scale": _number(told, ("cfg_scale",), broken, largest=1e6),
        "strength": _number(told, ("denoise", "strength"), broken, largest=1.0),
        "schedule": _name(told.pop("scheduler", "")),
        "version": _name(told.pop("version", told.pop("app_version", ""))),
        "prompt": _joined(sampler.prompts, "prompt", broken),
        "negative_prompt": _joined(sampler.negative_prompts, "negative prompt", broken),
    }
    models = list(found.models)[:MOST_NAMES]
    rest = [*told, *broken, *([f"{others} more samplers"] if others else [])]
    return ForeignRecipe(
        tool=tool,
        sampler=_name(sampler.name),
        width=width,
        height=height,
        models=tuple(ModelName(name=_name(model.name), hash=_name(model.hash)) for model in models),
        not_understood=tuple(map(plain_name, rest[:MOST_NAMES])),
        **checked,
    )


def _size(told: dict[str, Any], broken: list[str]) -> tuple[int | None, int | None]:
    """Width and height: by name, as Fooocus' resolution "(1152, 896)", or in ComfyUI's empty latents."""
    stated = str(told.pop("resolution", ""))[:40]
    resolution = stated.strip("()[] ").split(",")
    latents = told.get("EmptyLatentImage")
    if len(resolution) == 2:
        told = dict(zip(("width", "height"), map(str.strip, resolution), strict=True))
    elif isinstance(latents, list) and latents and isinstance(latents[0], dict):
        told = dict(latents[0])
    elif stated:
        broken.append(f"resolution is {stated}")
    width, height = (
        read_number(told, side, broken, whole=True, largest=LARGEST_SIDE) for side in ("width", "height")
    )
    return width, height


def _number(told: dict[str, Any], names: Iterable[str], broken: list[str], **rule: Any) -> Any:
    given = [name for name in names if name in told]
    return read_number(told, given[0], broken, **rule) if given else None


def _name(value: object) -> str:
    return plain_name(value) if isinstance(value, str) else ""


def _joined(prompts: Iterable[Any], name: str, broken: list[str]) -> str:
    """Several texts as one; what is no text, and what is too long, is named."""
    values = [prompt.value for prompt in prompts]
    texts = [value for value in values if isinstance(value, str)]
    joined = ", ".join(dict.fromkeys(texts))
    if len(texts) < len(values) or len(joined) > LONGEST_PROMPT:
        broken.append(name)
    return joined[:LONGEST_PROMPT]


def _graphs(texts: PictureTexts) -> dict[str, str]:
    """ComfyUI's two graphs: PNG texts, or in WebP files EXIF's Make and Model, led by their names."""
    found = {name: texts.texts[name] for name in ("prompt", "workflow") if name in texts.texts}
    for entry in texts.camera:
        name, _, graph = entry.partition(":")
        if name.lower() in ("prompt", "workflow"):
            found.setdefault(name.lower(), graph)
    return found


def _bounded_graph(graphs: Mapping[str, str]) -> dict[str, Any]:
    """A ComfyUI prompt of bounded size, with the links that it states itself in place of the workflow's.

    Both graphs say the same; the prompt is what was run, and is there in files without a workflow.
    """
    prompt = read_json(graphs["prompt"], largest=LARGEST_GRAPH_CHARACTERS, finite=False)
    if not isinstance(prompt, dict) or not all(isinstance(node, dict) for node in prompt.values()):
        raise RecipeError("ComfyUI's prompt is no graph of nodes")
    if len(prompt) > MOST_NODES:
        raise RecipeError(f"ComfyUI's prompt has {len(prompt)} nodes; at most {MOST_NODES} are read")
    links, samplers = [], 0
    for name, node in prompt.items():
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            continue
        samplers += {"sampler_name", "steps", "cfg"} <= {*inputs} or node.get("class_type") in SAMPLER_TYPES
        for key, value in inputs.items():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
                kind = "CLIP" if key == "clip" else "LINK"
                links.append([len(links), str(value[0]), 0, name, 0, kind])
    if len(links) > MOST_LINKS or samplers > MOST_SAMPLERS:
        raise RecipeError(
            f"ComfyUI's prompt has {len(links)} links and {samplers} samplers; at most {MOST_LINKS} and"
            f" {MOST_SAMPLERS} are read"
        )
    return {"prompt": prompt, "workflow": {"links": links}}
