"""Attention over few tokens in half precision on a CPU: plain matrix products, which train faster there.

Knows nothing of networks: while it is on, torch's attention function computes what it serves in this way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MOST_SCORES = 2**18
"""Queries times keys of a head; with more, torch's fused kernel is faster and needs far less memory."""


@contextmanager
def plain_attention(device: torch.device) -> Iterator[None]:
    """Compute attention with up to `MOST_SCORES` scores a head as matrix products, in this thread.

    Only for tensors in bfloat16 on a CPU; nothing else changes. Forward and backward together took 0.3 to
    1.0 of the fused kernel's time on two Zen 4 cores, which have no AMX, on 2026-11-21
    (`tests/benchmarks/plain_attention.py`).
    """
    if device.type != "cpu":
        yield
        return
    with _Plain():
        yield


def attend(
    query: Float[Tensor, "*batch queries width"],
    key: Float[Tensor, "*batch tokens width"],
    value: Float[Tensor, "*batch tokens values"],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries values"]:
    """Give softmax(q k^T scale + mask) v.

    Args:
        mask: [..., queries, tokens]; numbers are added to the scores, False leaves a score out.
        causal: query i attends to the tokens up to i only.
        scale: 1 / sqrt(width) unless given.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf)
            if mask.dtype == torch.bool
            else scores + mask.to(scores.dtype)
        )
    return torch.softmax(scores, dim=-1) @ value


class _Plain(TorchFunctionMode):
    """Stands in for torch's attention function where it is served here."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention and (given := _served(*args, **(kwargs or {}))):
            return attend(*given[:3], **given[3])
        return func(*args, **(kwargs or {}))


def _served(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]] | None:
    """What to attend with, or None for a call that the fused kernel does better or that is not understood."""
    half = query.dtype == key.dtype == value.dtype == torch.bfloat16
    few = query.shape[-2] * key.shape[-2] <= MOST_SCORES
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if not half or not few or not alike or dropout_p or any(others.values()):
        return None
    return query, key, value, {"mask": attn_mask, "causal": is_causal, "scale": scale}
