"""Regional prompting: phrases that act in boxes or masks of the picture, by way of cross-attention.

Knows nothing of how phrases become token states, or of guidance and the loop.

Each latent cell asks the prompt and the phrases of the regions it lies in, and gets the mix of their answers:

    out(cell) = (1 - sum_i s_i) A(cell, prompt) + sum_i s_i A(cell, phrase_i),
    s_i = w_i m_i / max(1, sum_j w_j m_j),

with A a layer's attention output, m_i in [0, 1] how much of the cell region i covers and w_i its weight.
Mixture of Diffusers (arXiv 2302.02412) and MultiDiffusion (arXiv 2302.08113) mix whole predictions by region
in the same way, at a network call per region. Mixing inside cross-attention, as community tools for regional
prompting do, costs one call, and self-attention joins the regions to one picture.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.attention_processor import (
    Attention,
    IPAdapterAttnProcessor,
    IPAdapterAttnProcessor2_0,
    IPAdapterXFormersAttnProcessor,
)
from jaxtyping import Float
from torch import Tensor

from ldm_pipeline.images import as_masks
from ldm_pipeline.text import Branch, TextConditioning, lengthen

IP_ADAPTERS = (IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0, IPAdapterXFormersAttnProcessor)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the picture."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A phrase and where it acts."""

    text: str
    area: Box | Float[Tensor, "rows columns"]
    """A box, or a mask of any size in [0, 1]: 1 is inside."""
    weight: float = 1.0
    """The phrase's share where the region covers a cell, in (0, 1]; the prompt keeps the rest."""


def read_regions(regions: Sequence[Any]) -> tuple[Region, ...]:
    """Read a call's `regions`: (text, box or mask) or (text, box or mask, weight), each checked.

    A box is (left, top, right, bottom) in fractions; a mask is a PIL picture, an array or a tensor of any
    size, white (1, or 255 in uint8) inside. ValueError in one line that names the region.
    """
    return tuple(_read(f"regions[{i}]", entry) for i, entry in enumerate(regions))


def _read(name: str, entry: Any) -> Region:
    if not isinstance(entry, tuple | list) or len(entry) not in (2, 3):
        raise ValueError(f"{name} is {entry!r}: give (text, box) or (text, box, weight)")
    text, area, weight = entry if len(entry) == 3 else (*entry, 1.0)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} has text {text!r}: say what is to be seen there")
    if not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise ValueError(f"{name} has weight {weight!r}: use a number above 0 and at most 1")
    if isinstance(area, tuple | list):
        return Region(text=text, area=_box(name, area), weight=float(weight))
    try:
        mask = as_masks(area, soft=True)
    except ValueError as error:
        raise ValueError(f"{name} has no mask that can be read: {error}") from error
    if len(mask) != 1 or not mask.any():
        wrong = "no white in its mask" if len(mask) == 1 else f"{len(mask)} masks"
        raise ValueError(f"{name} has {wrong}: give one area to act in")
    return Region(text=text, area=mask[0, 0], weight=float(weight))


def _box(name: str, sides: Sequence[Any]) -> Box:
    rule = "give (left, top, right, bottom) as fractions, left < right and top < bottom"
    if len(sides) != 4 or not all(isinstance(side, int | float) and 0 <= side <= 1 for side in sides):
        raise ValueError(f"{name} has box {tuple(sides)}, which is not four numbers from 0 to 1: {rule}")
    left, top, right, bottom = map(float, sides)
    if left >= right or top >= bottom:
        raise ValueError(f"{name} has box {tuple(sides)}, which is empty: {rule}")
    return left, top, right, bottom


def region_shares(
    regions: Sequence[Region], *, rows: int, columns: int
) -> Float[Tensor, "regions rows columns"]:
    """Give each region's share s_i of every cell of a grid, by area; float32, their sum at most 1."""
    covered = torch.stack([region.weight * _cover(region.area, rows, columns) for region in regions])
    return covered / covered.sum(0).clamp(min=1.0)


def _cover(area: Box | Tensor, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Measure how much of each cell an area covers, 0 to 1."""
    if isinstance(area, Tensor):
        down, across = (
            _overlap(cells, torch.arange(parts) / parts, (torch.arange(parts) + 1) / parts)
            for cells, parts in ((rows, area.shape[0]), (columns, area.shape[1]))
        )
        return (down @ area.to(torch.float32).cpu() @ across.T).clamp(0, 1)
    left, top, right, bottom = (torch.tensor([side]) for side in area)
    return (_overlap(rows, top, bottom) @ _overlap(columns, left, right).T).clamp(0, 1)


def _overlap(
    cells: int, low: Float[Tensor, " parts"], high: Float[Tensor, " parts"]
) -> Float[Tensor, "cells parts"]:
    """Measure the share of each of `cells` equal cells of [0, 1] that lies in each part [low, high]."""
    edges = torch.arange(cells + 1).unsqueeze(1) / cells
    shared = torch.minimum(edges[1:], high) - torch.maximum(edges[:-1], low)
    return shared.clamp(min=0) * cells


def shares_by_queries(
    shares: Float[Tensor, "regions rows columns"], *, levels: int
) -> dict[int, Float[Tensor, "regions queries"]]:
    """Give the shares on the grid of each level of a UNet, under the number of its cells.

    Each level halves both sides and rounds up, so one number of cells never belongs to two levels.
    """
    found: dict[int, Tensor] = {}
    for _ in range(levels):
        found[shares[0].numel()] = shares.flatten(1)
        shares = torch.nn.functional.avg_pool2d(shares, 2, ceil_mode=True, count_include_pad=False)
    return found


def with_phrases(conditioning: TextConditioning, phrases: Branch) -> TextConditioning:
    """Join every picture's prompt and the phrases (one row per region) along the tokens.

    The unconditional branches repeat themselves in the phrases' places, which leaves their predictions the
    same: token states alone say which row is regional, so any batch of branches may be run, by any guider.
    All texts are first brought to one length.
    """
    unconditional = [*conditioning.negatives, *([conditioning.null] if conditioning.null else [])]
    everything = [phrases, *conditioning.prompts, *unconditional]
    longest = max(branch.states.shape[1] for branch in everything)
    parts = 1 + len(phrases.states)
    spoken = lengthen(phrases, longest)

    def joined(branch: Branch, *, regional: bool) -> Branch:
        own = lengthen(branch, longest)
        rows = len(own.states)
        masked = own.attention is not None or (regional and spoken.attention is not None)

        def along_tokens(mine: Tensor, theirs: Tensor) -> Tensor:
            if not regional:
                return torch.cat([mine] * parts, dim=1)
            beside = theirs.to(mine).flatten(0, 1).unsqueeze(0)
            return torch.cat([mine, beside.repeat(rows, *[1] * (theirs.ndim - 1))], dim=1)

        return replace(
            own,
            states=along_tokens(own.states, spoken.states),
            attention=along_tokens(_read_tokens(own), _read_tokens(spoken)) if masked else None,
        )

    return TextConditioning(
        prompts=tuple(joined(branch, regional=True) for branch in conditioning.prompts),
        negatives=tuple(joined(branch, regional=False) for branch in conditioning.negatives),
        null=None if conditioning.null is None else joined(conditioning.null, regional=False),
    )


def _read_tokens(branch: Branch) -> Tensor:
    """Tell which tokens of a branch are text: all, where it has no mask."""
    if branch.attention is not None:
        return branch.attention
    return torch.ones(branch.states.shape[:2], dtype=torch.bool, device=branch.states.device)


@contextmanager
def regional_attention(unet: Any, regions: Sequence[Region], *, rows: int, columns: int) -> Iterator[None]:
    """Let a UNet's cross-attention mix prompt and phrases for latents of `rows` x `columns` cells.

    Meanwhile the UNet takes token states as `with_phrases` joins them. Every processor stays at work inside
    ours, so LoRA, fused kernels and slices keep their effect. Alters the UNet: the caller must hold it alone.
    On leaving, also by an error, all processors are back. Without regions nothing is done.
    ValueError where an IP-Adapter is loaded.
    """
    if not regions:
        yield
        return
    layers = [
        module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and name.endswith("attn2")
    ]
    processors = [layer.processor for layer in layers]
    if any(isinstance(processor, IP_ADAPTERS) for processor in processors):
        raise ValueError("regions and an IP-Adapter do not go together: call unload_ip_adapter() first")
    shares = region_shares(regions, rows=rows, columns=columns)
    by_queries = {
        queries: one.to(device=unet.device, dtype=unet.dtype)
        for queries, one in shares_by_queries(shares, levels=len(unet.down_blocks)).items()
    }
    try:
        for layer, processor in zip(layers, processors, strict=True):
            layer.set_processor(RegionalProcessor(processor, by_queries))  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for layer, processor in zip(layers, processors, strict=True):
            layer.set_processor(processor)


class RegionalProcessor:
    """A cross-attention processor that asks another one once per text, and mixes the answers cell by cell."""

    def __init__(self, inner: Any, shares: dict[int, Float[Tensor, "regions queries"]]):
        self.inner = inner
        self.shares = shares

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "batch queries channels"],
        encoder_hidden_states: Float[Tensor, "batch joined width"],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "batch queries channels"]:
        """Read `encoder_hidden_states` as the prompt's tokens and as many for each region."""
        shares = self.shares[hidden_states.shape[1]]
        texts = encoder_hidden_states.chunk(1 + len(shares), dim=1)
        masks = [None] * len(texts) if attention_mask is None else attention_mask.chunk(len(texts), dim=-1)
        answers = [
            self.inner(attn, hidden_states, encoder_hidden_states=text, attention_mask=mask, temb=temb)
            for text, mask in zip(texts, masks, strict=True)
        ]
        mixed = (1 - shares.sum(0)).unsqueeze(-1) * answers[0]
        for share, answer in zip(shares, answers[1:], strict=True):
            mixed = mixed + share.unsqueeze(-1) * answer
        return mixed
