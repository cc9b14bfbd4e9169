"""The CLIP model whose text tower becomes the pipeline's text encoder, with its export to transformers.

Knows nothing of losses, captions or how a tokenizer splits words: only of token ids.
"""

from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int64
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

INITIAL_LOG_SCALE = 2.302585092994046
"""log 10: the initial temperature of SigLIP."""
INITIAL_BIAS = -5.0
"""About minus the log of a batch of 64 with its wrong captions. SigLIP's -10 fits batches of 32,768: a short
run would spend its first thousands of steps on moving it."""
CHANNELS_PER_GROUP = 16
PADDING_MULTIPLE = 8


def build_clip(
    *,
    vocab_size: int,
    eos_token_id: int,
    seed: int,
    width: int = 192,
    layers: int = 6,
    heads: int = 6,
    context_length: int = 77,
    image_size: int = 64,
    vision_width: int = 32,
) -> CLIP:
    """An untrained open_clip model on the CPU; a pure function of its arguments.

    The text tower is causal, with exact GELU, and is pooled at the first `eos_token_id`, so that padding with
    that token is harmless and its id need not be the highest. Defaults and 2,048 tokens: 3.1 M parameters.

    The vision tower helps to train it and is thrown away: open_clip's `ModifiedResNet` with one block a stage
    and group norms. (Batch norms carry statistics outside the weights and see how processes share a batch.)
    Measured at 64 px, forward and backward in bf16 on one Zen 5 thread, loss after 300 steps of 64 on colors
    and places of two small shapes: width 32 (5.4 M) 350 pictures/s, 0.84; width 24 (3.1 M) 480, 1.31;
    ConvNeXt atto 360, 3.48; ViT/8 of width 192 with 4 layers 175, 3.41.

    Args:
        vocab_size: Number of token ids, the two special ones included.
        eos_token_id: Ends every text, and pads it.
        seed: Of the initial weights.
        width: Channels of the token states and of the shared embedding; a multiple of `heads`.
        image_size: Height and width of the pictures in pixels, a multiple of 32.
        vision_width: Channels of the vision tower's stem, a multiple of 8.

    Raises:
        ValueError: an argument breaks its rule above, or `eos_token_id` is 2.
    """
    _check_shape(width=width, heads=heads, image_size=image_size, vision_width=vision_width)
    _check_token("eos_token_id", eos_token_id, vocab_size=vocab_size)
    if eos_token_id == 2:
        raise ValueError(
            "eos_token_id: 2 makes transformers pool at the highest id; give the token another id."
        )
    text_cfg = CLIPTextCfg(
        context_length=context_length,
        vocab_size=vocab_size,
        width=width,
        heads=heads,
        layers=layers,
        pool_type="eos",
        eos_id=eos_token_id,
    )
    vision_cfg = CLIPVisionCfg(layers=(1, 1, 1, 1), width=vision_width, head_width=64, image_size=image_size)
    with torch.random.fork_rng(devices=[]):
        # open_clip draws initial weights from torch's global stream: lend it one of our own.
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        clip = CLIP(
            embed_dim=width,
            vision_cfg=vision_cfg,
            text_cfg=text_cfg,
            init_logit_scale=INITIAL_LOG_SCALE,
            init_logit_bias=INITIAL_BIAS,
        )
    _replace_batch_norms(cast(nn.Module, clip.visual))
    return clip


class _TextTower(NamedTuple):
    """The parts of the text tower, which open_clip keeps on `CLIP` itself and without types."""

    token_embedding: nn.Embedding
    position_embedding: nn.Parameter
    blocks: list[ResidualAttentionBlock]
    final_norm: nn.LayerNorm
    projection: nn.Parameter
    causal_mask: Tensor
    eos_token_id: int


def _text_tower(clip: CLIP) -> _TextTower:
    return _TextTower(
        token_embedding=cast(nn.Embedding, clip.get_submodule("token_embedding")),
        position_embedding=clip.get_parameter("positional_embedding"),
        blocks=cast(
            list[ResidualAttentionBlock], list(clip.get_submodule("transformer.resblocks").children())
        ),
        final_norm=cast(nn.LayerNorm, clip.get_submodule("ln_final")),
        projection=clip.get_parameter("text_projection"),
        causal_mask=clip.get_buffer("attn_mask"),
        eos_token_id=cast(int, clip.text_eos_id),
    )


def encode_text_states(clip: CLIP, ids: Int64[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
    """Token states after the final layer norm, pads included: what the UNet will see.

    There may be fewer tokens than the context holds: attention is causal, so a state depends only on what
    precedes it.
    """
    tower, tokens = _text_tower(clip), ids.shape[1]
    states = tower.token_embedding(ids) + tower.position_embedding[:tokens]
    # On a CPU in bf16, training at these lengths is 1.5 to 1.9 times as fast without the fused attention.
    with sdpa_kernel(SDPBackend.MATH) if ids.device.type == "cpu" else nullcontext():
        for block in tower.blocks:
            states = block(states, attn_mask=tower.causal_mask[:tokens, :tokens])
    return tower.final_norm(states)


def embed_text(
    clip: CLIP, states: Float[Tensor, "batch tokens width"], *, ids: Int64[Tensor, "batch tokens"]
) -> Float[Tensor, "batch width"]:
    """Text embeddings, not normalized, from the `states` of the `ids`; equal to `clip.encode_text(ids)`."""
    return states_at(states, end_positions(clip, ids)) @ _text_tower(clip).projection


def end_positions(clip: CLIP, ids: Int64[Tensor, "batch tokens"]) -> Int64[Tensor, "batch"]:  # noqa: F821
    """Position of the first end-of-text token of each row."""
    return torch.eq(ids, _text_tower(clip).eos_token_id).int().argmax(dim=1)


def states_at(
    states: Float[Tensor, "batch tokens width"],
    positions: Int64[Tensor, "batch"],  # noqa: F821
) -> Float[Tensor, "batch width"]:
    """The state at one position of each row."""
    return states[torch.arange(len(states), device=states.device), positions]


def without_padding(clip: CLIP, ids: Int64[Tensor, "batch tokens"]) -> Int64[Tensor, "batch shorter"]:
    """Cut columns that hold only padding, to a multiple of 8: the embeddings stay equal and cost less.

    The positions of the pads then get no gradient, so another loss has to see all of them.
    """
    longest = int(end_positions(clip, ids).max()) + 1
    return ids[:, : -(-longest // PADDING_MULTIPLE) * PADDING_MULTIPLE]


def export_text_encoder(clip: CLIP, *, bos_token_id: int, pad_token_id: int) -> CLIPTextModel:
    """The text tower as `transformers.CLIPTextModel` in fp32, on the CPU, with weights of its own.

    Its `last_hidden_state` without an attention mask, which is how diffusers calls it, equals
    `encode_text_states`. `save_pretrained(folder)` writes it.

    Raises:
        ValueError: `bos_token_id` or `pad_token_id` lies outside the vocabulary.
    """
    tower = _text_tower(clip)
    vocab_size, width = tower.token_embedding.weight.shape
    _check_token("bos_token_id", bos_token_id, vocab_size=vocab_size)
    _check_token("pad_token_id", pad_token_id, vocab_size=vocab_size)
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=tower.blocks[0].get_parameter("mlp.c_fc.weight").shape[0],
        projection_dim=tower.projection.shape[1],
        num_hidden_layers=len(tower.blocks),
        num_attention_heads=tower.blocks[0].attn.num_heads,
        max_position_embeddings=len(tower.position_embedding),
        hidden_act="gelu",
        layer_norm_eps=tower.final_norm.eps,
        bos_token_id=bos_token_id,
        eos_token_id=tower.eos_token_id,
        pad_token_id=pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # its initial weights, which are overwritten, are drawn globally
        encoder = CLIPTextModel(config)
    encoder.load_state_dict(_transformers_weights(tower))
    return encoder.eval()


def _transformers_weights(tower: _TextTower) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {
        "embeddings.token_embedding.weight": tower.token_embedding.weight,
        "embeddings.position_embedding.weight": tower.position_embedding,
        "final_layer_norm.weight": tower.final_norm.weight,
        "final_layer_norm.bias": tower.final_norm.bias,
    }
    names = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for number, block in enumerate(tower.blocks):
        layer = f"encoder.layers.{number}"
        for part in ("weight", "bias"):
            for theirs, ours in names.items():
                weights[f"{layer}.{theirs}.{part}"] = block.get_parameter(f"{ours}.{part}")
            # open_clip stacks query, key and value in one matrix, in this order.
            stacked = block.get_parameter(f"attn.in_proj_{part}")
            for letter, rows in zip("qkv", stacked.chunk(3), strict=True):
                weights[f"{layer}.self_attn.{letter}_proj.{part}"] = rows
    return {name: weight.detach().float().cpu() for name, weight in weights.items()}


def _replace_batch_norms(module: nn.Module) -> None:
    """Group norms in place of batch norms, with their scales (zero at the end of each residual branch)."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            groups = channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1
            norm = nn.GroupNorm(groups, channels)
            norm.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, norm)
        else:
            _replace_batch_norms(child)


def _check_shape(*, width: int, heads: int, image_size: int, vision_width: int) -> None:
    rules = (
        ("width", width, heads, f"heads ({heads})"),
        ("image_size", image_size, 32, "32"),
        ("vision_width", vision_width, 8, "8"),
    )
    for name, value, divisor, words in rules:
        if value < 1 or value % divisor:
            raise ValueError(f"{name}: {value} must be a positive multiple of {words}; choose such a number.")


def _check_token(name: str, value: int, *, vocab_size: int) -> None:
    if not 0 <= value < vocab_size:
        raise ValueError(f"{name}: {value} is no token id; give one from 0 to {vocab_size - 1}.")
