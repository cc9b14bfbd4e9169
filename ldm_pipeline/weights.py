"""A pipeline's networks and adapters -> the SHA-256 of their weights, from their files or from memory.

Knows nothing of recipes and pictures, or of what the networks compute.

A network that still is what its file says has the file's hash, whatever number type it was loaded in. Torch
counts how often each tensor was written to (`_version`), which tells a network that was trained on, and the
number of its parameters tells one that was given learned words.
"""

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm_pipeline.folder import component_files, file_hash, model_hash

NETWORKS = ("unet", "vae", "text_encoder", "image_encoder", "safety_checker")
CARRY_LORAS = ("unet", "text_encoder")
OF_A_LORA = ".lora_"
OF_AN_IP_ADAPTER = ("encoder_hid_proj.", "to_k_ip.", "to_v_ip.")

FileState = tuple[tuple[str, int, int], ...]
"""Path, size and time of last change, of each file."""
TensorState = tuple[int, int, int]
"""Number of tensors, of numbers in them, and of writes to them."""


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Where tensors came from, and how file and tensors looked then."""

    source: Path
    files: FileState
    tensors: TensorState


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA as it acted in a call."""

    name: str
    """Its file's name, or the adapter's name for one without a file."""
    weight: float
    """Its weight, 1 as trained."""
    uneven: bool
    """Whether other layers, or the other network, had other weights."""
    hash: Callable[[], str]
    """SHA-256 of its file, or of its tensors, when asked for; "" where both have changed since the call."""


_origins: "weakref.WeakKeyDictionary[nn.Module, _Origin]" = weakref.WeakKeyDictionary()
_adapters: "weakref.WeakKeyDictionary[nn.Module, dict[str, _Origin]]" = weakref.WeakKeyDictionary()
_hashes: "weakref.WeakKeyDictionary[Any, tuple[Any, str]]" = weakref.WeakKeyDictionary()


def remember_origin(parts: Mapping[str, Any], source: Path) -> None:
    """Note that these components were just loaded from a pipeline folder or a single file."""
    files = _file_state(component_files(source) if source.is_dir() else [source])
    for name in NETWORKS:
        network = _uncompiled(parts.get(name))
        if network is not None:
            _origins[network] = _Origin(source=source, files=files, tensors=_tensor_state(_own(network)))


def adapter_names(pipeline: Any) -> set[str]:
    """Name the LoRAs that are loaded, active or not."""
    networks = [_uncompiled(getattr(pipeline, name, None)) for name in CARRY_LORAS]
    return {name for network in networks for name in getattr(network, "peft_config", {})}


def remember_adapters(pipeline: Any, names: Iterable[str], file: Path | None) -> None:
    """Note that these LoRAs were just loaded from a file; None: from memory."""
    for network in (_uncompiled(getattr(pipeline, part, None)) for part in CARRY_LORAS):
        if network is None:
            continue
        for name in names:
            known = _adapters.setdefault(network, {})
            known.pop(name, None)
            if file is not None:
                state = _tensor_state(_of_adapter(network, name))
                known[name] = _Origin(source=file, files=_file_state([file]), tensors=state)


def weights_hash(pipeline: Any) -> Callable[[], str]:
    """Give a function that hashes the weights that a pipeline has now; "" once they have changed.

    The hash of the folder or file that all networks came from, where they are as they came; otherwise one of
    the networks' tensors (names, number types, shapes, bytes) and the tokenizer's words. LoRAs and
    IP-Adapters do not count. Nothing is hashed twice, and nothing is kept alive.
    """
    networks = {name: _uncompiled(getattr(pipeline, name, None)) for name in NETWORKS}
    networks = {name: network for name, network in networks.items() if network is not None}
    fused = frozenset(getattr(pipeline, "fused_loras", ()))
    melted = bool(fused - adapter_names(pipeline))
    origins = {_origin_of(network) for network in networks.values()}
    origin = None if melted or len(origins) != 1 else origins.pop()
    if origin is not None:
        return lambda: _source_hash(origin)
    parts = networks | {"tokenizer": getattr(pipeline, "tokenizer", None)}
    held = {name: (weakref.ref(one), _state(one)) for name, one in parts.items() if one is not None}

    def hash_of_parts() -> str:
        digest = hashlib.sha256()
        for name, (reference, state) in sorted(held.items()):
            part = reference()
            content = "" if part is None or _state(part) != state else _part_hash(part, (state, fused))
            if not content:
                return ""
            digest.update(f"{name}\0{content}\n".encode())
        return digest.hexdigest()

    return hash_of_parts


def active_adapters(pipeline: Any) -> list[Adapter]:
    """List the LoRAs that act on a pipeline's networks now, fused ones too, with their weights."""
    weights: dict[str, set[float]] = {}
    networks = {part: _uncompiled(getattr(pipeline, part, None)) for part in CARRY_LORAS}
    networks = {part: one for part, one in networks.items() if getattr(one, "peft_config", None)}
    for network in networks.values():
        for module in network.modules():
            if not hasattr(module, "lora_A") or not hasattr(module, "active_adapters"):
                continue
            acting = [] if module.disable_adapters else module.active_adapters
            for name in {*acting, *module.merged_adapters} & {*module.scaling}:
                rank = module.r[name] ** 0.5 if module.use_rslora.get(name) else module.r[name]
                weight = module.scaling[name] * rank / module.lora_alpha[name]
                weights.setdefault(name, set()).add(round(weight, 6))
    return [
        Adapter(
            name=next((o.source.name for o in _adapter_origins(networks.values(), name)), name),
            weight=max(found, key=abs),
            uneven=len(found) > 1,
            hash=_adapter_hash(list(networks.values()), name),
        )
        for name, found in sorted(weights.items())
    ]


def ip_adapter_hash(unet: Any) -> Callable[[], str] | None:
    """Give a function that hashes the IP-Adapters in a UNet; None where there is none."""
    unet = _uncompiled(unet)
    if getattr(unet, "encoder_hid_proj", None) is None:
        return None
    reference, state = weakref.ref(unet), _tensor_state(_of_ip_adapters(unet))

    def hash_of_tensors() -> str:
        network = reference()
        if network is None or _tensor_state(_of_ip_adapters(network)) != state:
            return ""
        return tensors_hash(_of_ip_adapters(network))

    return hash_of_tensors


def tensors_hash(named: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of tensors: names, number types, shapes and bytes; "" where one is on no device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        if tensor.is_meta:
            return ""
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _origin_of(network: nn.Module) -> _Origin | None:
    """Where a network came from; None once its tensors were written to, or others joined them."""
    origin, own = _origins.get(network), _own(network)
    moved_out = any(tensor.is_meta for tensor in own.values())  # offloaded: counts start anew
    if origin is None or (not moved_out and _tensor_state(own) != origin.tensors):
        return None
    # Networks of one folder differ in their own state only.
    return _Origin(source=origin.source, files=origin.files, tensors=(0, 0, 0))


def _source_hash(origin: _Origin) -> str:
    try:
        files = component_files(origin.source) if origin.source.is_dir() else [origin.source]
        if _file_state(files) != origin.files:
            return ""
        return model_hash(origin.source) if origin.source.is_dir() else file_hash(origin.source)
    except OSError:
        return ""


def _state(part: Any) -> tuple[Any, ...]:
    """What changes when a network in memory, or a tokenizer, does."""
    if not isinstance(part, nn.Module):
        return (len(part),)
    own = _own(part)
    return (*_tensor_state(own), *sorted({str(tensor.dtype) for tensor in own.values()}))


def _part_hash(part: Any, state: Any) -> str:
    """The hash of a network's tensors or a tokenizer's words, computed once for each state."""
    known = _hashes.get(part)
    if known is None or known[0] != state:
        if isinstance(part, nn.Module):
            content = tensors_hash(_own(part, with_buffers=True))
        else:
            content = hashlib.sha256(repr(sorted(part.get_vocab().items())).encode()).hexdigest()
        known = _hashes[part] = (state, content)
    return known[1]


def _adapter_origins(networks: Iterable[nn.Module], name: str) -> list[_Origin]:
    """The files of a LoRA, where every network has its tensors as they came."""
    found = []
    for network in networks:
        tensors = _of_adapter(network, name)
        origin = _adapters.get(network, {}).get(name)
        if not tensors:
            continue
        if origin is None or origin.tensors != _tensor_state(tensors):
            return []
        found.append(origin)
    return found


def _adapter_hash(networks: list[nn.Module], name: str) -> Callable[[], str]:
    origins = {origin.source: origin for origin in _adapter_origins(networks, name)}
    if len(origins) == 1:
        (origin,) = origins.values()
        return lambda: _source_hash(origin)
    held = [(weakref.ref(one), _tensor_state(_of_adapter(one, name))) for one in networks]

    def hash_of_tensors() -> str:
        tensors: dict[str, Tensor] = {}
        for number, (reference, state) in enumerate(held):
            network = reference()
            own = {} if network is None else _of_adapter(network, name)
            if network is None or _tensor_state(own) != state:
                return ""
            tensors |= {f"{number}.{key}": tensor for key, tensor in own.items()}
        return tensors_hash(tensors)

    return hash_of_tensors


def _own(network: nn.Module, *, with_buffers: bool = False) -> dict[str, Tensor]:
    """A network's own tensors, without those of adapters, under the names they have without adapters."""
    named = network.state_dict() if with_buffers else dict(network.named_parameters())
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in named.items()
        if OF_A_LORA not in name and not any(part in name for part in OF_AN_IP_ADAPTER)
    }


def _of_adapter(network: nn.Module, name: str) -> dict[str, Tensor]:
    return {
        key.replace(f".{name}.", "."): tensor
        for key, tensor in network.named_parameters()
        if OF_A_LORA in key and f".{name}." in key
    }


def _of_ip_adapters(unet: nn.Module) -> dict[str, Tensor]:
    named = unet.named_parameters()
    return {name: tensor for name, tensor in named if any(part in name for part in OF_AN_IP_ADAPTER)}


def _tensor_state(named: Mapping[str, Tensor]) -> TensorState:
    tensors = named.values()
    writes = sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
    return len(named), sum(tensor.numel() for tensor in tensors), writes


def _file_state(files: Iterable[Path]) -> FileState:
    statuses = [(path, path.stat()) for path in files]
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path, status in statuses)


def _uncompiled(network: Any) -> Any:
    """The network inside torch.compile's wrapper, or the network itself."""
    return getattr(network, "_orig_mod", network)
