"""A recipe, and what it needs beside itself -> a pipeline set up as it was, and the arguments of the call.

It does not know files that recipes lie in, nor how equal pictures are. What a recipe names is looked for by
hash alone: no path, address or class name out of a file is ever opened.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import guiders

from ldm_pipeline.call_record import input_hash
from ldm_pipeline.devices import DTYPES, checked_device
from ldm_pipeline.folder import (
    LORA_FILE,
    MODELS,
    SCHEDULER_NAMES,
    bundled_folder,
    file_hash,
    model_hash,
)
from ldm_pipeline.guiders import THAT_WORK
from ldm_pipeline.loading import bundled_names, load_pipeline
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.recipe import PictureRecipe
from ldm_pipeline.recipe_parts import LoraRecord
from ldm_pipeline.weights import NETWORKS

GIVEN_AS_ARGUMENTS = (
    *("image", "mask_image", "masked_image_latents", "latents", "prompt_embeds", "negative_prompt_embeds"),
    *("ip_adapter_image", "ip_adapter_image_embeds"),
)
"""Inputs that a call takes under the name that the recipe has for them."""
HASH_DIGITS = 12


class CannotReplay(ValueError):
    """Something that a recipe needs is missing or is another one; in one line, by name and hash."""


def open_for(
    recipe: PictureRecipe,
    *,
    model: str | None = None,
    loras: Sequence[Path] = (),
    device: str | None = None,
    dtype: str | None = None,
) -> LatentDiffusionPipeline:
    """Open the model of a recipe, with its LoRAs, scheduler and number types.

    model: as for `load_pipeline`; None finds a bundled model by its hash. Another model than the recipe's is
        taken as it is. loras: the recipe's LoRA files, in any order, and no others. device: None for the
        recipe's, or where this machine has none of that kind, the best one. dtype: None for the recipe's, of
        each network.

    Raises:
        CannotReplay: the model or a LoRA is missing, or the recipe names a scheduler that is not allowed.
    """
    if model is None:
        model = _bundled_model(recipe)
    if device is None and recipe.device:
        try:
            device = str(checked_device(recipe.device))
        except ValueError:
            device = None
    files = {lora.hash: _lora_file(lora, loras) for lora in recipe.loras}
    for file in loras:
        if file not in files.values():
            raise CannotReplay(f"{file.name} is none of the recipe's LoRAs ({len(files)}): leave it out")
    types = (
        {}
        if dtype is not None
        else {
            name: DTYPES[kind] for name, kind in recipe.dtypes.items() if name in NETWORKS and kind in DTYPES
        }
    )
    if dtype is None:
        mixed = len(set(types.values())) > 1
        dtype = "float32" if mixed else str(types.get("unet", torch.float32)).removeprefix("torch.")
    pipeline = load_pipeline(model, device=device, dtype=dtype)
    for name, kind in types.items():
        network = getattr(pipeline, name, None)
        if network is not None and network.dtype != kind:
            network.to(kind)
    _add_loras(pipeline, recipe, files)
    pipeline.scheduler = _scheduler(recipe) if recipe.scheduler else pipeline.scheduler
    return pipeline


def arguments_of(
    recipe: PictureRecipe, *, inputs: Mapping[str, Any] | None = None, as_they_were: bool = True
) -> tuple[dict[str, Any], int]:
    """Give the arguments of the call that draws a recipe's picture, and which of its pictures it is.

    Where every picture was computed alone, this one is, else the whole request.

    inputs: what the file does not hold, by the recipe's names, e.g. {"image": picture}; a list where there
        were several. as_they_were: False for a new picture in the recipe's manner: it is alone in any case,
        takes other inputs than the recipe's, more of them, and leaves noise and its generator to a seed.

    Raises:
        CannotReplay: an input is missing or has another hash, or something acted that no recipe holds.
    """
    given = dict(inputs or {})
    _check_needs(recipe, given, as_they_were=as_they_were)
    request = recipe.request
    shared = recipe.generator is not None and recipe.generator.shared
    several = any(len(recipe.hashes_of(name)) > 1 for name in GIVEN_AS_ARGUMENTS)
    alone = not as_they_were or (request.exact and not shared and not several)
    arguments = request.to_arguments()
    if alone:
        row = recipe.picture // request.num_images_per_prompt
        own = {
            "prompt": list(request.prompts[row : row + 1]),
            "negative_prompt": list(request.negative_prompts[row : row + 1]),
            "seed": [] if recipe.seed is None else [recipe.seed],
            "num_images_per_prompt": 1,
        }
        arguments |= own
        arguments = {name: value for name, value in arguments.items() if value != []}
    arguments |= {name: value for name, value in given.items() if name in GIVEN_AS_ARGUMENTS}
    if recipe.generator is not None and as_they_were:
        arguments["generator"] = _generator(recipe)
    if recipe.guider:
        arguments["guider"] = _guider(recipe)
        replaced = ("guidance_scale", "guidance_rescale", "guidance_interval", "negative_start")
        arguments = {name: value for name, value in arguments.items() if name not in replaced}
    if recipe.regions:
        arguments["regions"] = [(region.text, region.box, region.weight) for region in recipe.regions]
    if recipe.lora_scale is not None:
        arguments["cross_attention_kwargs"] = {"scale": recipe.lora_scale}
    return arguments, 0 if alone else recipe.picture


def _check_needs(recipe: PictureRecipe, given: Mapping[str, Any], *, as_they_were: bool) -> None:
    """Refuse what is missing, and inputs that are none of the recipe's."""
    names = {entry.name for entry in recipe.inputs}
    for name in given if as_they_were else ():
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise CannotReplay(f"{name} was given, but the recipe has no such input (it has: {known})")
    for entry in recipe.needs:
        if entry.name in GIVEN_AS_ARGUMENTS and entry.name in given:
            continue
        if not as_they_were and entry.name in ("latents", *recipe.withheld):
            continue
        if entry.name.startswith("lora ") and entry.hash:
            continue  # `open_for` asks for it
        hashed = f" (SHA-256 {entry.hash[:HASH_DIGITS]}...)" if entry.hash else ""
        raise CannotReplay(f"the recipe needs {entry.name}{hashed}, which the file does not hold: give it")
    if as_they_were:
        for name in names & given.keys():
            value = given[name]
            found = tuple(map(input_hash, value if isinstance(value, list | tuple) else [value]))
            wanted = recipe.hashes_of(name)
            if any(wanted) and found != wanted:
                raise CannotReplay(
                    f"{name} has SHA-256 {found[0][:HASH_DIGITS]}..., the recipe's"
                    f" {wanted[0][:HASH_DIGITS]}...: give the one that the picture was made with"
                )


def _bundled_model(recipe: PictureRecipe) -> str:
    for name in bundled_names():
        if recipe.model_hash and model_hash(bundled_folder(name)) == recipe.model_hash:
            return name
    hashed = f"SHA-256 {recipe.model_hash[:HASH_DIGITS]}..." if recipe.model_hash else "no hash recorded"
    raise CannotReplay(
        f"the recipe's model {recipe.model or 'without a name'} ({hashed}) is not a bundled one: give it"
        " with --model, as a folder or file"
    )


def _lora_file(lora: LoraRecord, files: Sequence[Path]) -> Path:
    bundled = sorted(MODELS.glob(f"*/{LORA_FILE}"))
    found = [file for file in (*files, *bundled) if lora.hash and file_hash(file) == lora.hash]
    if not found:
        hashed = f"SHA-256 {lora.hash[:HASH_DIGITS]}..." if lora.hash else "no hash recorded"
        raise CannotReplay(f"the recipe's LoRA {lora.name} ({hashed}) is missing: give its file with --lora")
    return found[0]


def _add_loras(pipeline: LatentDiffusionPipeline, recipe: PictureRecipe, files: Mapping[str, Path]) -> None:
    names: list[str] = []
    for number, lora in enumerate(recipe.loras):
        file = files[lora.hash]
        names.append(f"lora_{number}")
        pipeline.load_lora_weights(
            str(file.parent), weight_name=file.name, adapter_name=names[-1], local_files_only=True
        )
    if names:
        pipeline.set_adapters(names, [lora.weight for lora in recipe.loras])


def _scheduler(recipe: PictureRecipe) -> Any:
    name = recipe.scheduler
    if name.removesuffix("Scheduler") not in SCHEDULER_NAMES:
        raise CannotReplay(f"the recipe's scheduler {name} is none that this pipeline runs")
    return getattr(diffusers, name).from_config(_restored(dict(recipe.scheduler_config)))


def _guider(recipe: PictureRecipe) -> Any:
    if recipe.guider not in THAT_WORK:
        raise CannotReplay(f"the recipe's guider {recipe.guider} is none that this pipeline runs")
    return getattr(guiders, recipe.guider).from_config(_restored(dict(recipe.guider_config)))


def _generator(recipe: PictureRecipe) -> torch.Generator:
    assert recipe.generator is not None
    try:
        generator = torch.Generator(recipe.generator.device)
        state = torch.frombuffer(bytearray(recipe.generator.state_bytes), dtype=torch.uint8)
        return generator.set_state(state)
    except (RuntimeError, TypeError) as error:
        raise CannotReplay(
            f"the recipe's generator on {recipe.generator.device} cannot be restored here:"
            f" {str(error).splitlines()[0]}"
        ) from None


def _restored(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose infinities are numbers again."""
    return {name: float(value) if value in ("inf", "-inf") else value for name, value in config.items()}
