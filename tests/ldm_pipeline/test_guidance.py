"""Guidance: the arithmetic of the papers, and when it acts."""

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from ldm_pipeline.guidance import Guidance, guided_prediction, scale_embedding


def two_predictions():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 4, 8, 8, generator=draw)


def test_guidance_moves_past_the_conditional_prediction():
    u, c = two_predictions()
    torch.testing.assert_close(guided_prediction(u, c, Guidance(scale=3.0)), u + 3 * (c - u))
    torch.testing.assert_close(guided_prediction(u, c, Guidance(scale=1.0)), c)


def test_rescale_equals_that_of_diffusers_and_keeps_the_conditional_spread_at_one():
    u, c = two_predictions()
    ours = guided_prediction(u, c, Guidance(scale=7.5, rescale=0.7))
    torch.testing.assert_close(ours, rescale_noise_cfg(u + 7.5 * (c - u), c, guidance_rescale=0.7))
    full = guided_prediction(u, c, Guidance(scale=7.5, rescale=1.0))
    torch.testing.assert_close(full.std(dim=(1, 2, 3)), c.std(dim=(1, 2, 3)))


def test_guidance_acts_from_start_up_to_but_not_at_stop():
    guidance = Guidance(scale=4.0, interval=(0.25, 0.75))
    assert [guidance.acts_at(k / 4) for k in range(4)] == [False, True, True, False]
    assert not Guidance(scale=1.0).acts_at(0.5)
    assert all(Guidance(scale=4.0).acts_at(k / 20) for k in range(20))


def test_the_negative_prompt_acts_from_its_start_on():
    acts = [Guidance(negative_start=0.15).negative_acts_at(k / 20) for k in range(20)]
    assert acts == [False] * 3 + [True] * 17


def test_the_scale_embedding_has_one_row_per_picture_and_pads_odd_widths():
    even, odd = scale_embedding(7.5, 8, pictures=2), scale_embedding(7.5, 9, pictures=1)
    assert even.shape == (2, 8) and odd.shape == (1, 9)
    torch.testing.assert_close(even[0, 0], torch.tensor(6500.0).sin())
    assert odd[0, -1] == 0
