"""Plain attention is the fused kernel's, forward and backward, and takes only what it understands."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training import attention
from training.attention import attend, plain_attention

CPU = torch.device("cpu")


def inputs(*, tokens: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=draws, dtype=torch.float64) for n in (7, tokens, tokens))
    return q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_(), v.to(dtype).requires_grad_()


MASK = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(1)) > 0.4
MASK[..., 0] = True
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "causal": ({"is_causal": True}, {"causal": True}),
    "some left out": ({"attn_mask": MASK}, {"mask": MASK}),
    "added": ({"attn_mask": MASK.double()}, {"mask": MASK.double()}),
    "scaled": ({"scale": 0.7}, {"scale": 0.7}),
}


@pytest.mark.parametrize("theirs, ours", WAYS.values(), ids=WAYS)
def test_it_is_attention_forward_and_backward(theirs: dict[str, Any], ours: dict[str, Any]):
    given = inputs()
    expected = functional.scaled_dot_product_attention(*given, **theirs)
    made = attend(*given, **ours)
    assert torch.allclose(made, expected, atol=1e-12)
    upstream = torch.randn_like(made)
    for one, other in zip(*(torch.autograd.grad(o, given, upstream) for o in (made, expected)), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_it_takes_the_place_of_the_fused_kernel_in_bfloat16(monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[int, ...]] = []

    def counted(query: Tensor, *rest: Any, **named: Any) -> Tensor:
        calls.append(tuple(query.shape))
        return attend(query, *rest, **named)

    monkeypatch.setattr(attention, "attend", counted)
    half, whole = inputs(dtype=torch.bfloat16), inputs(dtype=torch.float32)
    with plain_attention(CPU):
        made = functional.scaled_dot_product_attention(*half)
        functional.scaled_dot_product_attention(*whole)
        functional.scaled_dot_product_attention(*half, dropout_p=0.5)
        functional.scaled_dot_product_attention(query=half[0], key=half[1], value=half[2], is_causal=True)
    assert calls == [(2, 3, 7, 8)] * 2
    expected = functional.scaled_dot_product_attention(*half)
    assert torch.allclose(made, expected, atol=0.02) and len(calls) == 2
    monkeypatch.setattr(attention, "MOST_SCORES", 48)
    with plain_attention(CPU):
        functional.scaled_dot_product_attention(*half)
    with plain_attention(torch.device("meta")):
        functional.scaled_dot_product_attention(*half)
    assert len(calls) == 2
