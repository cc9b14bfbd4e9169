"""Blocks of attention give what one piece gives, and only what they serve is computed in them."""

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ldm_pipeline import attention
from ldm_pipeline.attention import attend, blocked_attention

CPU = torch.device("cpu")


def drawn(
    *shape: int, dtype: torch.dtype = torch.bfloat16
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    batch, tokens, heads, width = shape
    many = (torch.randn(batch, tokens, heads, width, generator=draw) for _ in range(3))
    query, key, value = (one.to(dtype).transpose(1, 2) for one in many)
    return query, key, value


@pytest.fixture
def without_amx(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


@pytest.fixture
def served(monkeypatch):
    """Lists the number of tokens of every call that is computed in blocks."""
    tokens: list[int] = []
    real = attention.attend

    def noted(query, key, value, *, scale=None):
        tokens.append(key.shape[2])
        return real(query, key, value, scale=scale)

    monkeypatch.setattr(attention, "attend", noted)
    return tokens


@pytest.mark.parametrize(("width", "tokens"), [(40, 1100), (64, 1024), (160, 640)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_blocks_equal_one_piece_in_float32(width, tokens, scale):
    query, key, value = drawn(2, tokens, 3, width, dtype=torch.float32)
    expected = scaled_dot_product_attention(query, key, value, scale=scale)
    torch.testing.assert_close(attend(query, key, value, scale=scale), expected, atol=1e-5, rtol=1e-4)


def test_their_rounding_error_is_that_of_bfloat16():
    query, key, value = drawn(1, 1500, 2, 40)
    exact = scaled_dot_product_attention(query.double(), key.double(), value.double())
    error = (attend(query, key, value).double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    fused = scaled_dot_product_attention(query, key, value).double() - exact
    assert error < 2 * 2**-8
    assert error < 4 * fused.square().mean().sqrt() / exact.square().mean().sqrt()


@torch.no_grad()
def test_only_long_plain_bfloat16_attention_is_served(without_amx, served):
    long, short = drawn(1, 1024, 2, 16), drawn(1, 100, 2, 16)
    with blocked_attention(CPU, torch.bfloat16, tokens=4096):
        scaled_dot_product_attention(*long)
        assert served == [1024]
        scaled_dot_product_attention(query=long[0], key=long[1], value=long[2], scale=0.5)
        assert served == [1024, 1024]
        scaled_dot_product_attention(*short)
        scaled_dot_product_attention(long[0], short[1], short[2])  # to a text
        scaled_dot_product_attention(*long, is_causal=True)
        scaled_dot_product_attention(*long, attn_mask=torch.ones(1024, 1024, dtype=torch.bool))
        scaled_dot_product_attention(long[0].float(), long[1].float(), long[2].float())
    scaled_dot_product_attention(*long)
    assert served == [1024, 1024]


@pytest.mark.parametrize(
    ("features", "dtype", "tokens"),
    [
        ({"amx_bf16": True}, torch.bfloat16, 4096),
        ({}, torch.float32, 4096),
        ({}, torch.bfloat16, 256),
    ],
)
def test_elsewhere_nothing_changes(monkeypatch, served, features, dtype, tokens):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    with blocked_attention(CPU, dtype, tokens=tokens):
        scaled_dot_product_attention(*drawn(1, 1024, 2, 16))
    assert served == []


def test_a_pipeline_in_bfloat16_attends_in_blocks_and_draws_the_same(
    without_amx, served, monkeypatch, saved_folder
):
    from ldm_pipeline import load_pipeline

    pipe = load_pipeline(saved_folder, device="cpu", dtype="bfloat16")
    pipe.set_progress_bar_config(disable=True)

    def draw() -> Any:
        return pipe("paris", seed=7, num_inference_steps=2, height=512, width=512, output_type="pt").images

    blocks = draw()
    assert served and {*served} == {1024}
    number = len(served)
    monkeypatch.setattr(attention, "FEWEST_TOKENS", 10_000)
    plain = draw()
    assert len(served) == number
    assert (blocks - plain).abs().mean() < 0.01
