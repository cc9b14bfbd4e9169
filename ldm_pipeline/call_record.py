"""A call, before it draws -> what its pictures' recipes hold, once somebody asks for them.

It does not know how pictures are drawn. What may change later (scheduler, adapters, weights of adapters, the
caller's pictures and generators) is noted at once; what takes time (hashes of weights) only when asked for.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm_pipeline.arguments import Asked
from ldm_pipeline.drawn import DrawnPicture
from ldm_pipeline.images import as_pictures, to_pil
from ldm_pipeline.picture_files import source_type
from ldm_pipeline.recipe import PictureRecipe, library_versions, pixels_hash
from ldm_pipeline.recipe_parts import (
    GeneratorRecord,
    InputRecord,
    LoraRecord,
    RegionRecord,
    json_value,
    plain_name,
)
from ldm_pipeline.regions import Region
from ldm_pipeline.weights import (
    NETWORKS,
    Adapter,
    active_adapters,
    ip_adapter_hash,
    tensors_hash,
    weights_hash,
)


class CallRecipes(Sequence[PictureRecipe]):
    """The recipes of a call's pictures; each is made when it is first asked for."""

    def __init__(self, make: Callable[[int, str], PictureRecipe], hashes: Sequence[str]):
        """`make` gives the recipe of a number and the hash of its pixels."""
        self._make, self._hashes = make, list(hashes)
        self._made: dict[int, PictureRecipe] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    @overload
    def __getitem__(self, index: int) -> PictureRecipe: ...

    @overload
    def __getitem__(self, index: slice) -> list[PictureRecipe]: ...

    def __getitem__(self, index: int | slice) -> PictureRecipe | list[PictureRecipe]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number = range(len(self))[index]
        if number not in self._made:
            self._made[number] = self._make(number, self._hashes[number])
        return self._made[number]

    def __repr__(self) -> str:
        return f"<recipes of {len(self)} pictures>"

    def __reduce__(self) -> tuple[Any, ...]:
        """As a list: what has to be computed is computed now."""
        return list, (list(self),)


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """What a call's recipes share, and what is still to be computed for them."""

    fields: dict[str, Any]
    """`PictureRecipe`'s fields that were noted."""
    generators: tuple[GeneratorRecord, ...]
    """Of the caller's generators, one for all pictures or one each; empty where seeds drew."""
    inputs: tuple[InputRecord, ...]
    model_hash: Callable[[], str]
    adapters: tuple[Adapter, ...]
    ip_adapter: Callable[[], str] | None
    pictures: int

    def recipe(self, number: int, drawn_hash: str) -> PictureRecipe:
        """Make the recipe of one picture."""
        own = self.generators[number % len(self.generators)] if self.generators else None
        late = () if self.ip_adapter is None else (InputRecord(name="ip_adapter", hash=self.ip_adapter()),)
        return PictureRecipe(
            **self.fields,
            picture=number,
            generator=own,
            inputs=(*self.inputs, *late),
            model_hash=self.model_hash(),
            loras=tuple(
                LoraRecord(name=plain_name(one.name), hash=one.hash(), weight=one.weight, uneven=one.uneven)
                for one in self.adapters
            ),
            pixels_hash=drawn_hash,
        )

    def with_recipes(self, drawn: Any) -> tuple[Any, CallRecipes]:
        """Give a call's pictures, PIL ones with their recipes, and the recipes of all, PIL or not."""
        if not isinstance(drawn, list):
            return drawn, CallRecipes(self.recipe, [""] * self.pictures)
        recipes = CallRecipes(self.recipe, [pixels_hash(one) for one in drawn])
        term = source_type(self.fields["request"].start)

        def known(number: int, picture: Image.Image) -> DrawnPicture:
            return DrawnPicture.of(
                picture, lambda: recipes[number], drawn_hash=recipes._hashes[number], source_type=term
            )

        return [known(number, picture) for number, picture in enumerate(drawn)], recipes


def record_call(pipeline: Any, asked: Asked, *, image: Any, mask_image: Any) -> CallRecord:
    """Note what a checked call is about to draw with; `image` and `mask_image` as the caller gave them."""
    request, scale = asked.request, (asked.cross_attention_kwargs or {}).get("scale")
    adapters = tuple(active_adapters(pipeline))
    networks = {name: getattr(pipeline, name, None) for name in NETWORKS}
    dtypes = {
        name: str(one.dtype).removeprefix("torch.") for name, one in networks.items() if one is not None
    }
    return CallRecord(
        fields={
            "request": request,
            "model": model_name(str(pipeline.name_or_path or "")),
            "lora_scale": float(scale) if scale is not None and adapters else None,
            "scheduler": type(pipeline.scheduler).__name__,
            "scheduler_config": configuration(pipeline.scheduler),
            "guider": "" if asked.guider is None else type(asked.guider).__name__,
            "guider_config": {} if asked.guider is None else configuration(asked.guider),
            "regions": tuple(map(_region, asked.regions)),
            "unrecorded": _unrecorded(pipeline, asked),
            "device": asked.device.type,
            "dtypes": dtypes,
            "threads": torch.get_num_threads(),
            "environment": environment(pipeline.unet, asked.device),
            "versions": library_versions() | {"torch": torch.__version__},
        },
        generators=() if request.seeds else _generators(asked.generators),
        inputs=_inputs(asked, image=image, mask_image=mask_image),
        model_hash=weights_hash(pipeline),
        adapters=adapters,
        ip_adapter=ip_adapter_hash(pipeline.unet),
        pictures=asked.shape[0],
    )


def model_name(place: str) -> str:
    """A model's name, from its folder, file or place in the hub's cache; never the path."""
    parts = [part for part in place.replace("\\", "/").split("/") if part]
    if len(parts) > 2 and parts[-2] == "snapshots":
        return plain_name(parts[-3].split("--")[-1])
    return plain_name(parts[-1]) if parts else ""


def environment(unet: Any, device: torch.device) -> dict[str, str]:
    """Name what decides a picture's last bits beside versions, number types and threads."""
    found = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "attention": ", ".join(sorted({type(one).__name__ for one in unet.attn_processors.values()})),
    }
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        found |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": str(cudnn.version()),
            "tf32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {cudnn.allow_tf32}",
            "cudnn flags": f"deterministic {cudnn.deterministic}, benchmark {cudnn.benchmark}",
        }
    return {name: plain_name(value) for name, value in found.items()}


def input_hash(given: Any) -> str:
    """SHA-256 of a picture or tensor; "" for what is neither.

    A picture of eight bits has the hash of its pixels as RGB, whether it came as a file, PIL or an array.
    """
    if isinstance(given, Image.Image):
        plain = given.mode == "RGB" and "transparency" not in given.info
        return pixels_hash(given if plain else to_pil(as_pictures(given))[0])
    if isinstance(given, np.ndarray):
        if given.dtype == np.uint8 and given.ndim in (2, 3):
            return pixels_hash(to_pil(as_pictures(given))[0])
        given = torch.from_numpy(np.ascontiguousarray(given))
    if not isinstance(given, Tensor):
        return ""
    if given.dtype == torch.uint8 and given.ndim in (2, 3):
        return pixels_hash(to_pil(as_pictures(given))[0])
    return tensors_hash({"": given})


def _inputs(asked: Asked, *, image: Any, mask_image: Any) -> tuple[InputRecord, ...]:
    """List everything that was given beside the request, an entry for each picture or tensor."""
    given = {
        "image": image,
        "mask_image": mask_image,
        "masked_image_latents": asked.masked_image_latents,
        "latents": asked.noise,
        "prompt_embeds": asked.prompt_embeds,
        "negative_prompt_embeds": asked.negative_prompt_embeds,
        "ip_adapter_image": asked.ip_adapter_image,
        "ip_adapter_image_embeds": asked.ip_adapter_image_embeds,
    }
    return tuple(
        InputRecord(name=name, hash=input_hash(one))
        for name, value in given.items()
        if value is not None
        for one in _single(value)
    )


def _single(value: Any) -> list[Any]:
    """Lists, and lists in lists, as one list."""
    if isinstance(value, list | tuple):
        return [one for entry in value for one in _single(entry)]
    return [value]


def _generators(generators: Any) -> tuple[GeneratorRecord, ...]:
    """Note the states of generators before anything is drawn."""
    each = generators if isinstance(generators, list) else [generators]
    return tuple(
        GeneratorRecord.of_state(
            one.get_state().cpu().numpy().tobytes(),
            device=one.device.type,
            shared=not isinstance(generators, list),
        )
        for one in each
    )


def _region(region: Region) -> RegionRecord:
    masked = isinstance(region.area, Tensor)
    return RegionRecord(
        text=region.text,
        box=None if isinstance(region.area, Tensor) else region.area,
        mask_hash=input_hash(region.area) if masked else "",
        weight=region.weight,
    )


def configuration(configured: Any) -> dict[str, Any]:
    """Give a scheduler's or guider's configuration as JSON values."""
    config = {name: value for name, value in configured.config.items() if not name.startswith("_")}
    return json_value(config)


def _unrecorded(pipeline: Any, asked: Asked) -> tuple[str, ...]:
    """Name what acts on the pictures and has no place in a recipe."""
    others = {name for name, value in (asked.cross_attention_kwargs or {}).items() if value is not None}
    freed = any(getattr(block, "b1", None) is not None for block in pipeline.unet.up_blocks)
    acting = {
        "callback_on_step_end": asked.callback is not None,
        "cross_attention_kwargs": bool(others - {"scale"}),
        "FreeU": freed,
        "VAE tiling": bool(getattr(pipeline.vae, "use_tiling", False)),
    }
    return tuple(name for name, acts in acting.items() if acts)
