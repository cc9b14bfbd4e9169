"""Guidance: the arithmetic of the papers, and when it acts."""

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from ldm_pipeline.guidance import (
    Guidance,
    Term,
    composed_prediction,
    guided_prediction,
    scale_embedding,
    weighted_mean,
)


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


def terms(*weights):
    draw = torch.Generator().manual_seed(1)
    return [Term(prediction=torch.randn(2, 4, 8, 8, generator=draw), weight=weight) for weight in weights]


def test_one_prompt_and_one_negative_give_the_bits_of_plain_guidance():
    u, c = two_predictions()
    guided = composed_prediction([Term(prediction=u)], [Term(prediction=c)], Guidance(scale=7.5))
    assert torch.equal(guided, u + 7.5 * (c - u))
    assert weighted_mean([Term(prediction=c, weight=torch.tensor([0.5, 0.2]))]) is c


def test_prompts_pull_by_their_weights_away_from_the_mean_of_the_negatives():
    (a, b), (m, n) = terms(torch.tensor([0.7, 1.0]), torch.tensor([-0.2, 0.0])), terms(None, None)
    u = (m.prediction + n.prediction) / 2
    guided = composed_prediction([m, n], [a, b], Guidance(scale=3.0))
    first = u[0] + 3 * (0.7 * (a.prediction[0] - u[0]) - 0.2 * (b.prediction[0] - u[0]))
    torch.testing.assert_close(guided[0], first)
    torch.testing.assert_close(guided[1], u[1] + 3 * (a.prediction[1] - u[1]))


def test_two_equal_terms_of_half_weight_equal_one_term():
    u, c = two_predictions()
    half = torch.tensor([0.5, 0.5])
    for guidance in (Guidance(scale=7.5), Guidance(scale=7.5, rescale=0.7)):
        twice = composed_prediction([Term(prediction=u)], [Term(prediction=c, weight=half)] * 2, guidance)
        torch.testing.assert_close(twice, guided_prediction(u, c, guidance))
    torch.testing.assert_close(weighted_mean([Term(prediction=c, weight=half)] * 2), c)


def test_terms_of_weight_zero_have_no_influence():
    u, c = two_predictions()
    other, guidance = terms(torch.zeros(2))[0], Guidance(scale=7.5, rescale=0.5)
    with_zero = composed_prediction([Term(prediction=u), other], [Term(prediction=c), other], guidance)
    torch.testing.assert_close(with_zero, guided_prediction(u, c, guidance))


def test_the_mean_is_normalized_by_the_weights_and_keeps_the_number_type():
    a, b = terms(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(weighted_mean([a, b])[1], 0.75 * a.prediction[1] + 0.25 * b.prediction[1])
    low = [Term(prediction=term.prediction.bfloat16(), weight=term.weight) for term in (a, b)]
    assert weighted_mean(low).dtype == torch.bfloat16
