"""A pipeline's weights under the names of Stable Diffusion's original checkpoints, for tests of opening them.

Knows nothing of what is tested with it.
"""

import re
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_INNER = {
    "conv_shortcut": "nin_shortcut",
    "attentions.0.group_norm": "attn_1.norm",
    "attentions.0.to_q": "attn_1.q",
    "attentions.0.to_k": "attn_1.k",
    "attentions.0.to_v": "attn_1.v",
    "attentions.0.to_out.0": "attn_1.proj_out",
    "resnets.0": "block_1",
    "resnets.1": "block_2",
}


def original_weights(pipe: Any) -> dict[str, Tensor]:
    """Everything of a Stable Diffusion 1.x pipeline, as its authors' single file names it."""
    found = {unet_name(name, pipe.unet): weight for name, weight in pipe.unet.state_dict().items()}
    for name, weight in pipe.vae.state_dict().items():
        new = vae_name(name, levels=len(pipe.vae.config.block_out_channels))
        # The attention of the original VAE is made of convolutions with 1 x 1 kernels.
        kernel = ".attn_1." in new and weight.ndim == 2
        found[f"first_stage_model.{new}"] = weight[:, :, None, None] if kernel else weight
    for name, weight in pipe.text_encoder.state_dict().items():
        plain = name.removeprefix("text_model.")
        found[f"cond_stage_model.transformer.text_model.{plain}"] = weight
    found["alphas_cumprod"] = torch.linspace(1.0, 0.0, 1000)  # the schedule, which every such file carries
    return {name: weight.contiguous() for name, weight in found.items()}


def unet_name(name: str, unet: Any) -> str:
    """Rename "down_blocks.0.resnets.1.conv1.weight", say, to "...input_blocks.2.0.in_layers.2.weight"."""
    per_level = unet.config.layers_per_block + 1
    for ours, theirs in UNET_TOP.items():
        if name.startswith(f"{ours}."):
            return f"model.diffusion_model.{theirs}{name.removeprefix(ours)}"
    part = re.fullmatch(r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
    assert part is not None, name
    where, level, kind, index = part[1], int(part[2] or 0), part[3], int(part[4])
    rest = part[5]
    if kind == "resnets":
        inner, _, end = rest.rpartition(".")
        rest = f"{RESNET[inner]}.{end}"
    if where == "mid":
        place = f"middle_block.{1 if kind == 'attentions' else 2 * index}"
    elif kind == "downsamplers":
        place, rest = f"input_blocks.{(level + 1) * per_level}.0", rest.replace("conv.", "op.")
    elif kind == "upsamplers":
        attends = hasattr(unet.up_blocks[level], "attentions")
        place = f"output_blocks.{level * per_level + per_level - 1}.{2 if attends else 1}"
    elif where == "down":
        place = f"input_blocks.{level * per_level + index + 1}.{int(kind == 'attentions')}"
    else:
        place = f"output_blocks.{level * per_level + index}.{int(kind == 'attentions')}"
    return f"model.diffusion_model.{place}.{rest}"


def vae_name(name: str, *, levels: int) -> str:
    """Rename "decoder.up_blocks.0.resnets.1.norm1.weight", say, to "decoder.up.3.block.1.norm1.weight"."""
    name = name.replace("conv_norm_out", "norm_out")
    if ".mid_block." in name:
        name = name.replace("mid_block", "mid")
        for ours, theirs in VAE_INNER.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        return name
    name = name.replace("conv_shortcut", "nin_shortcut")
    name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    name = name.replace("down_blocks", "down").replace("resnets", "block")
    return re.sub(r"up_blocks\.(\d+)", lambda level: f"up.{levels - 1 - int(level[1])}", name)
