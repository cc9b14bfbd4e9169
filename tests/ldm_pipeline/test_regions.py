"""Phrases act where their boxes and masks are, nowhere else, and on the prompt's branch alone."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from peft import LoraConfig
from PIL import Image

from ldm_pipeline.denoise import StepState, predict
from ldm_pipeline.guidance import Guidance
from ldm_pipeline.regions import (
    RegionalProcessor,
    read_regions,
    region_shares,
    regional_attention,
    shares_by_queries,
    with_phrases,
)
from ldm_pipeline.text import Branch, TextConditioning
from tests import tiny

EVERYWHERE = (0, 0, 1, 1)


def deep_unet() -> Any:
    """Three levels, all with cross-attention, so that regions act on three grids."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 8, 16),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        up_block_types=("CrossAttnUpBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    tiny.randomize(unet, 3)
    return unet


@pytest.fixture(scope="module")
def unet() -> Any:
    return deep_unet()


def states(seed: int, *, rows: int = 2, tokens: int = 7) -> torch.Tensor:
    return torch.randn(rows, tokens, 32, generator=torch.Generator().manual_seed(seed))


def texts(prompt: torch.Tensor, negative: torch.Tensor | None = None) -> TextConditioning:
    negatives = () if negative is None else (Branch(states=negative),)
    return TextConditioning(prompts=(Branch(states=prompt),), negatives=negatives)


@torch.no_grad()
def predicted(
    unet: Any,
    conditioning: TextConditioning,
    *,
    regions: Any = (),
    phrases: torch.Tensor | None = None,
    rows: int = 8,
    columns: int = 8,
    scale: float = 4.0,
) -> torch.Tensor:
    """One guided prediction, two pictures, with or without regions."""
    read = read_regions(regions)
    if phrases is not None:
        conditioning = with_phrases(conditioning, Branch(states=phrases))
    latents = torch.randn(2, 8, rows, columns, generator=torch.Generator().manual_seed(0))
    state = StepState(latents=latents, conditioning=conditioning, guidance=Guidance(scale=scale))
    with regional_attention(unet, read, rows=rows, columns=columns):
        return predict(unet, latents, torch.tensor(600), state, place=0.0, arguments={})


def near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (8, 12), (5, 11)])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_a_region_that_covers_everything_equals_its_phrase_as_the_prompt(unet, rows, columns, scale):
    prompt, negative, phrase = states(1), states(2), states(3, rows=1)
    size: Any = {"rows": rows, "columns": columns, "scale": scale}
    found = predicted(unet, texts(prompt, negative), regions=[("x", EVERYWHERE)], phrases=phrase, **size)
    near(found, predicted(unet, texts(phrase.repeat(2, 1, 1), negative), **size))
    assert (found - predicted(unet, texts(prompt, negative), **size)).abs().max() > 0.01


def test_no_regions_change_no_bit_and_no_module(unet):
    before = dict(unet.attn_processors)
    conditioning = texts(states(1), states(2))
    assert torch.equal(predicted(unet, conditioning, regions=[]), predicted(unet, conditioning))
    with regional_attention(unet, (), rows=8, columns=8):
        assert unet.attn_processors == before


def test_phrases_that_say_what_the_prompt_says_change_nothing(unet):
    prompt, negative = states(1, rows=1), states(2)
    conditioning = texts(prompt.repeat(2, 1, 1), negative)
    halves = [("left", (0, 0, 0.4, 1)), ("right", (0.3, 0.2, 1, 1), 0.7)]
    found = predicted(unet, conditioning, regions=halves, phrases=prompt.repeat(2, 1, 1))
    near(found, predicted(unet, conditioning))


def test_the_negative_prompt_is_not_regional(unet):
    """At the prompt's own phrase everywhere only the unconditional branch could differ."""
    phrase, negative = states(3, rows=1), states(2)
    conditioning = texts(phrase.repeat(2, 1, 1), negative)
    found = predicted(unet, conditioning, regions=[("x", EVERYWHERE)], phrases=phrase, scale=50.0)
    wanted = predicted(unet, conditioning, scale=50.0)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    own = predicted(unet, texts(phrase.repeat(2, 1, 1), phrase.repeat(2, 1, 1)), scale=50.0)
    assert (own - wanted).abs().max() > 0.1


def test_two_regions_act_each_on_its_side(unet):
    """Another phrase on the right changes the right edge most; self-attention carries some of it over."""
    conditioning, halves = texts(states(1)), [("a", (0, 0, 0.5, 1)), ("b", (0.5, 0, 1, 1))]
    left, right, other = states(3, rows=1), states(4, rows=1), states(5, rows=1)
    size: Any = {"rows": 8, "columns": 16, "scale": 1.0}
    found = predicted(unet, conditioning, regions=halves, phrases=torch.cat([left, right]), **size)
    again = predicted(unet, conditioning, regions=halves, phrases=torch.cat([left, other]), **size)
    change = (found - again).abs().mean(dim=(0, 1, 2))
    assert change[12:].mean() > 1.5 * change[:4].mean()


def attention_layer(processor: Any) -> Attention:
    layer = Attention(query_dim=8, cross_attention_dim=32, heads=2, dim_head=4).eval()
    tiny.randomize(layer, 5)
    layer.set_processor(processor)
    return layer


@torch.no_grad()
@pytest.mark.parametrize("processor", [AttnProcessor, AttnProcessor2_0])
def test_outside_all_regions_attention_is_untouched_and_inside_it_is_the_phrases(processor):
    layer = attention_layer(processor())
    cells = torch.randn(2, 6 * 9, 8, generator=torch.Generator().manual_seed(1))
    prompt, phrase = states(1), states(3, rows=1)
    shares = shares_by_queries(
        region_shares(read_regions([("x", (0, 0, 1 / 3, 0.5))]), rows=6, columns=9), levels=1
    )
    plain, spoken = layer(cells, prompt), layer(cells, phrase.repeat(2, 1, 1))
    layer.set_processor(RegionalProcessor(layer.processor, shares))  # pyright: ignore[reportArgumentType]
    joined = with_phrases(texts(prompt), Branch(states=phrase)).prompt
    mixed = layer(cells, joined).reshape(2, 6, 9, 8)
    inside = torch.zeros(6, 9, dtype=torch.bool)
    inside[:3, :3] = True
    assert torch.equal(mixed[:, ~inside], plain.reshape(2, 6, 9, 8)[:, ~inside])
    torch.testing.assert_close(mixed[:, inside], spoken.reshape(2, 6, 9, 8)[:, inside], atol=1e-6, rtol=0)
    assert (mixed - plain.reshape(2, 6, 9, 8))[:, inside].abs().max() > 0.01


@torch.no_grad()
def test_a_weight_leaves_the_prompt_the_rest():
    layer = attention_layer(AttnProcessor2_0())
    cells = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
    prompt, phrase = states(1, rows=1), states(3, rows=1)
    plain, spoken = layer(cells, prompt), layer(cells, phrase)
    shares = region_shares(read_regions([("x", EVERYWHERE, 0.75)]), rows=4, columns=4)
    layer.set_processor(RegionalProcessor(layer.processor, shares_by_queries(shares, levels=1)))  # pyright: ignore
    mixed = layer(cells, with_phrases(texts(prompt), Branch(states=phrase)).prompt)
    torch.testing.assert_close(mixed, 0.25 * plain + 0.75 * spoken, atol=1e-6, rtol=0)


def test_shares_are_areas():
    regions = read_regions([("left", (0, 0, 0.375, 1)), ("low", (0.25, 0.5, 1, 1), 0.5)])
    left, low = region_shares(regions, rows=2, columns=4)
    near(left, torch.tensor([[1, 0.5, 0, 0], [1, 0.5, 0, 0]]))
    near(low, torch.tensor([[0, 0, 0, 0], [0, 0.5, 0.5, 0.5]]))


def test_where_regions_overlap_they_share_what_there_is():
    first, second = region_shares(read_regions([("a", EVERYWHERE), ("b", (0, 0, 0.5, 1))]), rows=1, columns=2)
    near(first, torch.tensor([[0.5, 1.0]]))
    near(second, torch.tensor([[0.5, 0.0]]))


def half_white(kind: str) -> Any:
    """White in the left half; 24 x 10 pixels."""
    pixels = np.zeros((10, 24), dtype=np.uint8)
    pixels[:, :12] = 255
    kinds = {
        "PIL": Image.fromarray(pixels),
        "color": Image.fromarray(pixels).convert("RGB"),
        "uint8": pixels,
        "float": pixels.astype(np.float32) / 255,
        "tensor": torch.from_numpy(pixels / 255.0).float(),
        "tensor with channel": torch.from_numpy(pixels / 255.0).float()[None],
    }
    return kinds[kind]


@pytest.mark.parametrize("kind", ["PIL", "color", "uint8", "float", "tensor", "tensor with channel"])
def test_a_mask_of_any_kind_and_size_equals_its_box(kind):
    box, mask = (read_regions([("x", area)]) for area in ((0, 0, 0.5, 1), half_white(kind)))
    for rows, columns in ((2, 4), (5, 7), (16, 32)):
        near(*(region_shares(one, rows=rows, columns=columns) for one in (box, mask)))


def test_a_soft_mask_fades():
    ramp = torch.linspace(0, 1, 8).repeat(4, 1)
    shares = region_shares(read_regions([("x", ramp)]), rows=2, columns=4)[0, 0]
    near(shares, ramp[0].reshape(4, 2).mean(1))


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (5, 11), (16, 4)])
def test_every_cross_attention_layer_finds_its_grid(unet, rows, columns):
    """The number of queries names the level, also where sides do not halve evenly."""
    shares = shares_by_queries(torch.ones(1, rows, columns), levels=3)
    met: set[int] = set()
    hooks = [
        module.register_forward_hook(lambda _, given, __: met.add(given[0].shape[1]))
        for name, module in unet.named_modules()
        if name.endswith("attn2")
    ]
    predicted(unet, texts(states(1)), rows=rows, columns=columns, scale=1.0)
    for hook in hooks:
        hook.remove()
    assert met == set(shares) and len(met) == 3
    for grid in shares.values():
        near(grid, torch.ones_like(grid))


def test_adapters_keep_acting_under_regions():
    unet = deep_unet()
    phrase = states(3, rows=1)
    conditioning, everywhere = texts(states(1), states(2)), [("x", EVERYWHERE)]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    tiny.randomize(unet, 3)  # the adapter's second half starts at zero
    found = predicted(unet, conditioning, regions=everywhere, phrases=phrase)
    near(found, predicted(unet, texts(phrase.repeat(2, 1, 1), states(2))))
    unet.disable_adapters()
    assert (predicted(unet, conditioning, regions=everywhere, phrases=phrase) - found).abs().max() > 0.01


def test_texts_of_different_length_are_brought_to_one(unet):
    """A long prompt has more tokens than phrases and negative prompt; what fills those up is not read."""
    long, negative, phrase = states(1, tokens=14), states(2), states(3, rows=1)
    found = predicted(unet, texts(long, negative), regions=[("x", EVERYWHERE)], phrases=phrase)
    near(found, predicted(unet, texts(phrase.repeat(2, 1, 1), negative)))
    halves = [("x", (0, 0, 0.5, 1))]
    some = predicted(unet, texts(long, negative), regions=halves, phrases=phrase)
    assert (some - found).abs().max() > 0.01


def test_the_delayed_negative_prompts_stand_in_is_joined_too():
    null = Branch(states=states(4))
    conditioning = TextConditioning(
        prompts=(Branch(states=states(1)),), negatives=(Branch(states=states(2)),), null=null
    )
    joined = with_phrases(conditioning, Branch(states=states(3)))
    assert joined.null is not None
    assert torch.equal(joined.null.states, null.states.repeat(1, 3, 1))
    assert torch.equal(joined.prompt[1], torch.cat([states(1)[1], states(3)[0], states(3)[1]]))


@pytest.mark.parametrize("fails", [False, True])
def test_the_processors_come_back_also_after_an_error(unet, fails):
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError) if fails else nullcontext():  # noqa: SIM117
        with regional_attention(unet, read_regions([("x", EVERYWHERE)]), rows=8, columns=8):
            changed = {name for name, now in unet.attn_processors.items() if now is not before[name]}
            assert changed == {name for name in before if ".attn2." in name}
            if fails:
                raise RuntimeError("out of memory")
    assert all(now is before[name] for name, now in unet.attn_processors.items())


def test_an_ip_adapter_is_refused():
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    unet = tiny.make_unet()
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2  # pyright: ignore
    layer.set_processor(IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=32))
    with pytest.raises(ValueError, match="regions and an IP-Adapter do not go together: call unload_ip"):  # noqa: SIM117
        with regional_attention(unet, read_regions([("x", EVERYWHERE)]), rows=8, columns=8):
            pass


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("a red car", r"regions\[0\] is 'a red car': give \(text, box\)"),
        (("a", EVERYWHERE, 1.0, 2), r"regions\[0\] is .*: give \(text, box\)"),
        (("  ", EVERYWHERE), "has text '  ': say what is to be seen there"),
        ((7, EVERYWHERE), "has text 7"),
        (("a", (0, 0, 1.5, 1)), "which is not four numbers from 0 to 1: give"),
        (("a", (0, 0, 1)), "which is not four numbers"),
        (("a", (0.5, 0, 0.5, 1)), r"box \(0.5, 0, 0.5, 1\), which is empty: give"),
        (("a", (0, 0.6, 1, 0.5)), "which is empty"),
        (("a", EVERYWHERE, 0), "has weight 0: use a number above 0 and at most 1"),
        (("a", EVERYWHERE, 1.5), "has weight 1.5"),
        (("a", np.zeros((8, 8))), "has no white in its mask: give one area"),
        (("a", torch.ones(2, 1, 8, 8)), "mask"),
        (("a", "left"), "has no mask that can be read: "),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(entry, words):
    with pytest.raises(ValueError, match=words) as refused:
        read_regions([entry])
    assert "\n" not in str(refused.value)
