"""What is added to a loaded pipeline from files: LoRAs, learned words, IP-Adapters; safetensors only.

Knows nothing of how they act on a picture: diffusers' own loaders do the work, once a file is no pickle.
"""

# diffusers and transformers export lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import IPAdapterMixin, StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from transformers import CLIPVisionModelWithProjection

from ldm_pipeline.folder import PICKLE_ENDINGS, one_line, pickle_remedy, readable_weights
from ldm_pipeline.weights import adapter_names, remember_adapters

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision")


class SafetensorsAdapters(TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin, IPAdapterMixin):
    """diffusers' loaders of additions, which by themselves open pickles where they find no safetensors."""

    def load_textual_inversion(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pretrained_model_name_or_path: Any, token: Any = None, **kwargs: Any
    ) -> None:
        """Learn words from embeddings, with diffusers' arguments; ValueError for pickles."""
        _refuse_pickles(pretrained_model_name_or_path, kwargs)
        place = self.device  # pyright: ignore[reportAttributeAccessIssue]
        # transformers draws the new rows, which are overwritten, from the global random state.
        devices = [place] if place.type == "cuda" else []
        with readable_weights(str(pretrained_model_name_or_path)), torch.random.fork_rng(devices=devices):
            super().load_textual_inversion(
                pretrained_model_name_or_path, token, **{**kwargs, "use_safetensors": True}
            )

    def load_lora_weights(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pretrained_model_name_or_path_or_dict: Any, adapter_name: str | None = None, **kwargs: Any
    ) -> None:
        """Add a LoRA, with diffusers' arguments; ValueError for pickles."""
        _refuse_pickles(pretrained_model_name_or_path_or_dict, kwargs)
        known = adapter_names(self)
        with readable_weights(str(kwargs.get("weight_name") or "the LoRA")):
            super().load_lora_weights(
                pretrained_model_name_or_path_or_dict, adapter_name, **{**kwargs, "use_safetensors": True}
            )
        file = _lora_file(pretrained_model_name_or_path_or_dict, kwargs)
        remember_adapters(self, adapter_names(self) - known, file)

    def load_ip_adapter(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        pretrained_model_name_or_path_or_dict: Any,
        subfolder: Any,
        weight_name: Any,
        image_encoder_folder: str | None = "image_encoder",
        **kwargs: Any,
    ) -> None:
        """Add an IP-Adapter and its picture encoder, with diffusers' arguments; ValueError for pickles."""
        places = _listed(pretrained_model_name_or_path_or_dict)
        names, folders = _listed(weight_name), _listed(subfolder)
        in_files = [place for place in places if not isinstance(place, dict)]
        for name in names if in_files else []:
            if Path(name).suffix != ".safetensors":
                raise ValueError(f"weight_name={name!r} is no .safetensors file: {pickle_remedy(Path(name))}")
        if in_files and image_encoder_folder is not None and getattr(self, "image_encoder", None) is None:
            inside = "/" in image_encoder_folder
            within = Path(image_encoder_folder) if inside else Path(folders[0], image_encoder_folder)
            self._load_image_encoder(in_files[0], within, kwargs)
        with readable_weights(", ".join(map(str, names))):
            super().load_ip_adapter(
                pretrained_model_name_or_path_or_dict, subfolder, weight_name, image_encoder_folder, **kwargs
            )

    def _load_image_encoder(self: Any, place: Any, within: Path, arguments: dict[str, Any]) -> None:
        """Open it before diffusers' loader does, which would not insist on safetensors."""
        _refuse_pickles(Path(place) / within, {})
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            place,
            subfolder=within.as_posix(),
            use_safetensors=True,
            dtype=self.dtype,
            **{name: arguments[name] for name in HUB_ARGUMENTS if name in arguments},
        )
        self.register_modules(image_encoder=encoder.to(self.device))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _lora_file(place: Any, arguments: dict[str, Any]) -> Path | None:
    """Give the file on this machine that a LoRA is read from; None for one from elsewhere or from memory."""
    if not isinstance(place, str | Path):
        return None
    file = Path(place, arguments.get("subfolder") or "", arguments.get("weight_name") or "")
    if not file.is_dir():
        return file if file.is_file() else None
    inside = sorted(file.glob("*.safetensors"))
    return inside[0] if len(inside) == 1 else None


def _refuse_pickles(places: Any, arguments: dict[str, Any]) -> None:
    """Refuse files that are pickles by name, and folders that hold nothing but pickles."""
    if arguments.get("use_safetensors") is False:
        raise ValueError(
            "use_safetensors=False would open pickles, which can run code: run `ldm convert` first"
        )
    named, subfolder = arguments.get("weight_name"), arguments.get("subfolder") or ""
    for place in _listed(places):
        if not isinstance(place, str | Path):
            continue  # tensors in memory
        inside = Path(place, subfolder)
        files = [Path(named)] if named else [inside]
        if not named and inside.is_dir():
            files = [] if any(inside.glob("*.safetensors")) else sorted(inside.iterdir())
        for file in files:
            if file.suffix.lower() in PICKLE_ENDINGS:
                raise ValueError(f"{one_line(file)} is a pickle: {pickle_remedy(file)}")
