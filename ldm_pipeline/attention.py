"""Attention over many tokens in bfloat16 on CPUs without AMX: blocks of queries, as plain matrix products.

Knows nothing of networks: while it is on, torch's attention function computes what it serves in this way.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FEWEST_TOKENS = 1024
"""Below it torch's fused kernel is as fast (`tests/benchmarks/blocked_attention.py`)."""
ROWS_AT_ONCE = 512
"""Queries of a block: its scores, 4 MB for 4096 keys, stay in the cache."""
COLUMNS = 16
"""Value widths are filled up to multiples of it, which oneDNN multiplies nearly twice as fast."""


@contextmanager
def blocked_attention(device: torch.device, dtype: torch.dtype, *, tokens: int) -> Iterator[None]:
    """Compute attention over `FEWEST_TOKENS` and more in blocks, in this thread, where that is faster.

    That is in bfloat16 on a CPU without AMX, whose fused kernel multiplies in float32 there. `tokens` is the
    most that the network will attend to; with fewer, or elsewhere, nothing changes. Scores are rounded to
    bfloat16, so that the answer's rounding error is twice the fused kernel's.
    """
    if device.type != "cpu" or dtype != torch.bfloat16 or tokens < FEWEST_TOKENS or _has_amx():
        yield
        return
    with _Blocks():
        yield


def attend(
    query: Float[Tensor, "batch heads queries width"],
    key: Float[Tensor, "batch heads tokens width"],
    value: Float[Tensor, "batch heads tokens values"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries values"]:
    """Give softmax(q k^T scale) v, block of queries by block; `scale` is 1 / sqrt(width) unless given."""
    wide = value.shape[-1]
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    queries, keys = scaled.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
    values = functional.pad(value, (0, -wide % COLUMNS)).flatten(0, 1)
    answer = query.new_empty(*query.shape[:-1], wide)
    for q, k, v, into in zip(queries, keys, values, answer.flatten(0, 1), strict=True):
        for rows, place in zip(q.split(ROWS_AT_ONCE), into.split(ROWS_AT_ONCE), strict=True):
            place.copy_(torch.mm(torch.softmax(torch.mm(rows, k), dim=-1), v)[:, :wide])
    return answer


class _Blocks(TorchFunctionMode):
    """Stands in for torch's attention function where it is served here."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is functional.scaled_dot_product_attention and _serves(*args, **named):
            query, key, value = (*args, *(named[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            return attend(query, key, value, scale=named.get("scale"))
        return func(*args, **named)


def _serves(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **named: Any,
) -> bool:
    """Tell whether a call is plain attention over many tokens, one key and value head per query head."""
    plain = attn_mask is None and not dropout_p and not is_causal and named.keys() <= {"scale"}
    return (
        plain
        and query.dtype == torch.bfloat16
        and query.ndim == 4
        and min(query.shape[2], key.shape[2]) >= FEWEST_TOKENS
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and math.prod(query.shape[:2]) > 0
    )


def _has_amx() -> bool:
    tell = getattr(torch.cpu, "get_capabilities", dict)  # older torch does not tell: as without
    return bool(tell().get("amx_bf16"))
