"""Inputs and targets of all three predictions, against the formulas and against diffusers."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import pytest
import torch
from diffusers import DDPMScheduler

from training.targets import (
    LEAST_WEIGHT,
    alphas_cumprod,
    flow_times,
    matching_scheduler,
    noisy_batch,
)

DRAWS = torch.Generator().manual_seed(0)
X_0, NOISE = torch.randn(2, 16, 4, 4, 4, generator=DRAWS)
UNIFORM = torch.rand(16, 2, generator=DRAWS)


def test_flow_mixes_in_a_straight_line_and_aims_along_it():
    noisy = noisy_batch(X_0, NOISE, UNIFORM, prediction="flow")
    s = (noisy.timesteps / 1000)[:, None, None, None]
    torch.testing.assert_close(noisy.x_t, (1 - s) * X_0 + s * NOISE)
    torch.testing.assert_close(noisy.target, NOISE - X_0)
    torch.testing.assert_close(noisy.x_t - s * noisy.target, X_0, atol=1e-5, rtol=0)
    assert noisy.weight.unique().tolist() == [1]


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_noise_and_velocity_agree_with_diffusers(prediction):
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                           rescale_betas_zero_snr=prediction == "v")  # fmt: skip
    noisy = noisy_batch(X_0, NOISE, UNIFORM, prediction=prediction)
    steps = noisy.timesteps.long()
    noise = torch.as_tensor(NOISE)
    torch.testing.assert_close(noisy.x_t, theirs.add_noise(X_0, noise, steps), atol=2e-4, rtol=1e-4)  # type: ignore[arg-type]
    wanted = noise if prediction == "epsilon" else theirs.get_velocity(X_0, noise, steps)  # type: ignore[arg-type]
    torch.testing.assert_close(noisy.target, wanted, atol=2e-4, rtol=1e-4)


def test_min_snr_weights_follow_the_paper():
    bar = alphas_cumprod(zero_terminal_snr=False)
    noisy = noisy_batch(X_0, NOISE, UNIFORM, prediction="epsilon")
    snr = (bar / (1 - bar))[noisy.timesteps.long()]
    torch.testing.assert_close(noisy.weight, snr.clamp(max=5) / snr)
    last = noisy_batch(X_0[:1], NOISE[:1], torch.tensor([[0.9999, 0.5]]), prediction="v")
    assert last.weight.tolist() == pytest.approx([LEAST_WEIGHT])
    torch.testing.assert_close(last.x_t, NOISE[:1])


def test_a_tenth_of_the_flow_times_is_uniform_and_the_rest_logit_normal():
    draws = torch.rand(50_000, 2, generator=torch.Generator().manual_seed(1))
    s = flow_times(draws, shift=1.0)
    assert float(s.min()) >= 0 and float(s.max()) <= 1
    middle = float(((s > 0.25) & (s < 0.75)).float().mean())
    assert middle == pytest.approx(0.1 * 0.5 + 0.9 * 0.728, abs=0.01)  # P(|N(0,1)| < log 3) = 0.728
    assert float(flow_times(draws, shift=3.0).mean()) > float(s.mean()) + 0.1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers under numpy 2
@pytest.mark.parametrize("prediction", ["flow", "epsilon", "v"])
def test_the_matching_scheduler_draws_the_picture_of_a_perfect_network(prediction):
    scheduler = matching_scheduler(prediction)
    scheduler.set_timesteps(20)
    x_t, x_0 = NOISE.clone(), X_0
    for t in scheduler.timesteps:
        index = scheduler.index_for_timestep(t)
        sigma = float(scheduler.sigmas[index])
        norm = (1 - sigma) + sigma if prediction == "flow" else (1 + sigma**2) ** 0.5
        a, b = (1 - sigma if prediction == "flow" else 1 / norm), sigma / norm
        noise = (x_t - a * x_0) / b
        answer = {"flow": noise - x_0, "epsilon": noise, "v": a * noise - b * x_0}[prediction]
        x_t = scheduler.step(answer, t, x_t, return_dict=False)[0]
    torch.testing.assert_close(x_t, x_0, atol=0.02, rtol=0)
