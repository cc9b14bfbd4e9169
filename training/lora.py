"""Low-rank adapters: added to networks that stay as they are, and written in the two formats people share.

Knows nothing of training. Sources: arXiv 2106.09685 (LoRA), arXiv 2402.09353 (DoRA); peft does the work.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

WEIGHTS = "pytorch_lora_weights.safetensors"
KOHYA_WEIGHTS = "kohya_lora.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """How large an adapter is and what it changes."""

    rank: int = 16
    alpha: float = 16.0
    """The adapter's product is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Ends of names of the UNet's layers: attention; "ff.net.0.proj", "ff.net.2", "conv1" and "conv2" learn
    more, and make the file larger."""
    text_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """The same for the text encoder, where it learns too."""
    dora: bool = False
    """The size of each output's weights learns apart from their direction."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank={self.rank}: must be at least 1; 4 to 32 are usual.")
        if self.alpha <= 0:
            raise ValueError(f"lora.alpha={self.alpha}: must be above 0; the rank itself is usual.")
        if not self.targets:
            raise ValueError("lora.targets= is empty: name ends of the UNet's layers, e.g. to_q,to_k,to_v.")


def add_lora(
    network: UNet2DConditionModel | CLIPTextModel,
    shape: LoraShape,
    *,
    targets: tuple[str, ...],
    draws: torch.Generator,
) -> None:
    """Freeze `network` and put an adapter that changes nothing yet beside each of its `targets`.

    Args:
        draws: first values of the adapter's inner matrices; they are a function of its state.
    Raises:
        ValueError: peft is not installed, or no layer's name ends in one of the targets.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ModuleNotFoundError:
        raise ValueError("a LoRA needs the package peft: run pip install '.[lora]' in a checkout.") from None
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, layer in network.named_modules() if isinstance(layer, kinds)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            ends = sorted({name.rsplit(".", 1)[-1] for name in names} - {"0", "2"})
            raise ValueError(
                f"lora.targets={target}: no layer of the {type(network).__name__} ends in it; "
                f"there are {', '.join(ends)}."
            )
    network.requires_grad_(False)
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # pyright: ignore[reportArgumentType] (its annotation is too narrow)
        target_modules=list(targets),
        use_dora=shape.dora,
    )
    with torch.random.fork_rng(devices=[]):  # peft draws from the global state
        torch.set_rng_state(draws.get_state())
        network.add_adapter(config)
    for layer in network.modules():
        if isinstance(layer, BaseTunerLayer):
            # Else inputs are cast to float32, which autocast takes back at once.
            layer.cast_input_dtype_enabled = False  # type: ignore[assignment]


def lora_tensors(network: UNet2DConditionModel | CLIPTextModel) -> dict[str, Tensor]:
    """The adapter's weights under peft's names, detached, on the CPU."""
    from peft import get_peft_model_state_dict

    found: Mapping[str, Tensor] = get_peft_model_state_dict(network)
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def write_lora(
    folder: Path,
    *,
    shape: LoraShape,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel | None,
    facts: Mapping[str, str],
) -> list[Path]:
    """Write the adapters of both networks; gives the files' paths.

    diffusers' format always, which its `load_lora_weights` and our pipeline open; kohya's, which A1111,
    ComfyUI and kohya-ss know too, but for DoRA, whose part diffusers would leave out of such a file.

    Args:
        text_encoder: one that has learned; None where it stayed as it was.
        facts: texts for the files' headers.
    """
    networks = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    layers = {name: _full_names(name, lora_tensors(network)) for name, network in networks.items()}
    settings = {name: _settings(network) for name, network in networks.items()}
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers={**layers["unet"]},
        text_encoder_lora_layers={**layers["text_encoder"]} if text_encoder is not None else None,  # type: ignore[arg-type]
        unet_lora_adapter_metadata=settings["unet"],
        text_encoder_lora_adapter_metadata=settings.get("text_encoder"),
        weight_name=WEIGHTS,
    )
    _add_facts(folder / WEIGHTS, facts)
    written = [folder / WEIGHTS]
    if not shape.dora:
        header = {
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(shape.rank),
            "ss_network_alpha": str(shape.alpha),
            **facts,
        }
        save_file(kohya_tensors(layers, alpha=shape.alpha), folder / KOHYA_WEIGHTS, metadata=header)
        written.append(folder / KOHYA_WEIGHTS)
    return written


def _add_facts(file: Path, facts: Mapping[str, str]) -> None:
    """Say more in a file's header, which diffusers' own writer leaves no room for."""
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata() or {}
    save_file(load_file(file), file, metadata={**header, **facts})


def kohya_tensors(layers: Mapping[str, Mapping[str, Tensor]], *, alpha: float) -> dict[str, Tensor]:
    """Adapters of "unet" and "text_encoder" under kohya-ss' names, with each layer's alpha."""
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    parts = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    tensors: dict[str, Tensor] = {}
    for network, weights in layers.items():
        for name, value in weights.items():
            layer, part = name.split(".lora_", 1)
            flat = prefixes[network] + layer.replace(".", "_")
            tensors[f"{flat}.{parts[f'lora_{part}']}"] = value
            tensors[f"{flat}.alpha"] = torch.tensor(float(alpha))
    return tensors


def _full_names(network: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that files of this format have: transformers >= 5.6 leaves `text_model.` out.

    Its loader also wants the ".weight" of DoRA's sizes, which peft leaves out and its own loader adds.
    """
    if network == "unet":
        return tensors
    ended = {f"{n}.weight" if n.endswith("lora_magnitude_vector") else n: v for n, v in tensors.items()}
    return {n if n.startswith("text_model.") else f"text_model.{n}": v for n, v in ended.items()}


def _settings(network: Any) -> dict[str, Any]:
    """peft's settings as JSON holds them: what tells a loader alpha and DoRA."""
    plain = network.peft_config["default"].to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in plain.items()}
