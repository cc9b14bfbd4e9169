"""A model's name, folder or single file, with device, number type, LoRA and scheduler -> a ready pipeline.

It does not know how pictures are drawn, nor what the folder's files hold: `folder.py` checks them.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from ldm_pipeline.devices import DTYPES, checked_device, fastest_dtype
from ldm_pipeline.folder import bundled_folder, few_steps_of, lora_path, pickle_remedy
from ldm_pipeline.pipeline import LatentDiffusionPipeline


def load_pipeline(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: str = "auto",
    lora: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
) -> LatentDiffusionPipeline:
    """Opens a model and makes it ready to draw.

    Args:
        model: None for the bundled model; a bundled model's name; a pipeline folder; a `.safetensors` file of
            the Stable Diffusion family; or a hub's `owner/name`. Only the last two may use the network, a
            single file for its configuration where the hub's cache does not hold it.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes an accelerator where there is one.
        dtype: "float32", "float16", "bfloat16", or "auto": bfloat16 on hardware that computes in it, else
            float16 on an accelerator and float32 on a CPU. `pipeline.dtype` tells which; recipes record it.
        lora: A LoRA's `.safetensors` file, or the name of a bundled one ("few_steps": four steps instead of
            fourteen, for the bundled model); needs the extra `lora`. With a LoRA for few steps, calls that
            say no number of steps take what it was made for.
        scheduler: A short name ("dpm++", "unipc") or diffusers' class name; None keeps the model's own.

    Raises:
        ValueError: for a model, device, number type, LoRA or scheduler that does not exist or does not fit.
    """
    if dtype not in DTYPES and dtype != "auto":
        raise ValueError(f"dtype={dtype!r} is unknown: use auto or one of {', '.join(DTYPES)}")
    place = checked_device(device)
    number_type = fastest_dtype(place) if dtype == "auto" else DTYPES[dtype]
    lora_file = _safetensors_file("lora", lora_path(lora)) if lora is not None else None
    pipeline = _open(model, number_type)
    if scheduler is not None:
        pipeline.use_scheduler(scheduler)
    if lora_file is not None:
        _add_lora(pipeline, lora_file)
    return pipeline.to(place)


def _open(model: str | os.PathLike[str] | None, dtype: torch.dtype) -> LatentDiffusionPipeline:
    if model is None:
        return LatentDiffusionPipeline.from_pretrained(dtype=dtype)
    name, path = os.fspath(model), Path(model)
    if path.is_dir():
        return LatentDiffusionPipeline.from_pretrained(path, dtype=dtype)
    if path.is_file():
        file = _safetensors_file("model", path)
        return LatentDiffusionPipeline.from_single_file(file, dtype=dtype)
    bundled = bundled_names()
    if name in bundled:
        return LatentDiffusionPipeline.from_pretrained(bundled_folder(name), dtype=dtype)
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith("."):
        return LatentDiffusionPipeline.from_pretrained(name, dtype=dtype)
    raise ValueError(
        f"model={name!r} is no folder, no file and no bundled model ({', '.join(bundled) or 'none'}):"
        " check the spelling, or export a pipeline folder with `python -m training export`"
    )


def bundled_names() -> list[str]:
    """Names of the models that came with the package."""
    models = Path(__file__).parent / "models"
    return sorted(path.parent.name for path in models.glob("*/model_index.json"))


def _add_lora(pipeline: LatentDiffusionPipeline, lora: Path) -> None:
    try:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
    except ValueError as error:
        if "PEFT" in str(error):
            raise ValueError("lora needs the package peft: run pip install '.[lora]' in a checkout") from None
        raise ValueError(f"lora={lora.name!r} does not fit this model: {error}") from error
    steps = few_steps_of(lora)
    if steps is not None:
        pipeline.generation_defaults = replace(pipeline.generation_defaults, num_inference_steps=steps)


def _safetensors_file(argument: str, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{argument}={os.fspath(path)!r} is not a file: check the path")
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{argument}={os.fspath(path)!r} is no .safetensors file: {pickle_remedy(path)}")
    return path
