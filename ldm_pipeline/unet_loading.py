"""A UNet's folder with float32 weights -> the network in a smaller number type, a few tensors at a time.

Knows nothing of pipelines. diffusers maps the whole file and converts it from there, so that both copies are
in memory at once: the most of all that loading and drawing take.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from pathlib import Path

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open

WEIGHTS = "diffusion_pytorch_model.safetensors"
BYTES_AT_ONCE = 2**28
"""Of the file that are mapped at a time: mapped pages count as memory until the file is closed."""


def load_unet(folder: Path, *, dtype: torch.dtype) -> UNet2DConditionModel | None:
    """The UNet in `folder`, in evaluation mode on the CPU; equal to `from_pretrained(folder, dtype=dtype)`.

    None for what only diffusers can tell or gains nothing here: weights in several files, under older names
    or quantized, or of no larger number type than `dtype`; and for files that do not fit their config.
    """
    file = folder / WEIGHTS
    if not file.is_file() or not (folder / "config.json").is_file():
        return None
    config = UNet2DConditionModel.load_config(folder, local_files_only=True)
    assert isinstance(config, dict)
    if "quantization_config" in config:
        return None
    with init_empty_weights():
        network = UNet2DConditionModel.from_config(config)
    assert isinstance(network, UNet2DConditionModel)
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        with safe_open(file, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            found = {name: part.get_shape() for name, part in slices.items()}
            kinds = {part.get_dtype() for part in slices.values()}
    except SafetensorError:
        return None
    if found != shapes or kinds != {"F32"} or dtype.itemsize >= torch.float32.itemsize:
        return None
    for names in _groups(shapes):
        with safe_open(file, framework="pt") as weights:
            for name in names:
                set_module_tensor_to_device(network, name, "cpu", value=weights.get_tensor(name), dtype=dtype)
    network.register_to_config(_name_or_path=str(folder))
    return network.eval()


def _groups(shapes: dict[str, list[int]]) -> list[list[str]]:
    """Names in groups of at most `BYTES_AT_ONCE` bytes of float32, or of one tensor."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, shape in shapes.items():
        size = 4 * torch.Size(shape).numel()
        if groups[-1] and held + size > BYTES_AT_ONCE:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups
