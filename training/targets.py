"""What a denoising network is trained to predict: rectified flow, noise (eps), or velocity (v).

Tensor maths only; knows nothing of networks or data.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from jaxtyping import Float
from torch import Tensor

Prediction = Literal["flow", "epsilon", "v"]
TRAIN_TIMESTEPS = 1000
SNR_GAMMA = 5.0
"""Min-SNR weighting, arXiv 2303.09556."""
LEAST_WEIGHT = 0.05
"""With zero terminal SNR min-SNR would give the last timestep no weight at all, and sampling starts there."""
UNIFORM_SHARE = 0.1
"""Share of flow timesteps drawn uniformly, so that both ends are covered."""


@dataclass(frozen=True)
class NoisyBatch:
    """One training step's input and target."""

    x_t: Tensor
    timesteps: Tensor
    """float [batch] in [0, 1000]."""
    target: Tensor
    weight: Tensor
    """[batch], of each sample's squared error."""


def noisy_batch(
    x_0: Float[Tensor, "batch c h w"],
    noise: Float[Tensor, "batch c h w"],
    uniform: Float[Tensor, "batch 2"],
    *,
    prediction: Prediction,
    shift: float = 1.0,
    schedule: Tensor | None = None,
    snr_gamma: float | None = SNR_GAMMA,
) -> NoisyBatch:
    """Mix `x_0` with `noise` at the noise levels that `uniform` in [0, 1) stands for.

    flow: x_t = (1 - s) x_0 + s e, target e - x_0 (arXiv 2209.03003), s logit-normal(0, 1)
        (arXiv 2403.03206) or, for a tenth of the samples, uniform; `shift` moves s towards noise,
        s' = shift s / (1 + (shift - 1) s).
    epsilon: target e, min-SNR weight. v: target sqrt(a) e - sqrt(1-a) x_0 (arXiv 2202.00512) on a schedule
        with zero terminal SNR (arXiv 2305.08891), min-SNR weight for v.

    `schedule` is another model's own alpha-bar of each timestep, [1000], for epsilon and v. `snr_gamma` is
    min-SNR's; None weighs all noise levels alike.
    """
    if prediction == "flow":
        s = flow_times(uniform, shift=shift)
        t = s[:, None, None, None]
        return NoisyBatch((1 - t) * x_0 + t * noise, s * TRAIN_TIMESTEPS, noise - x_0, torch.ones_like(s))
    steps = (uniform[:, 0] * TRAIN_TIMESTEPS).long().clamp(max=TRAIN_TIMESTEPS - 1)
    if schedule is None:
        schedule = alphas_cumprod(zero_terminal_snr=prediction == "v")
    alpha_bar = schedule.to(x_0.device)[steps]
    a, b = alpha_bar.sqrt()[:, None, None, None], (1 - alpha_bar).sqrt()[:, None, None, None]
    x_t = a * x_0 + b * noise
    if snr_gamma is None:
        target = noise if prediction == "epsilon" else a * noise - b * x_0
        return NoisyBatch(x_t, steps.float(), target, torch.ones_like(alpha_bar))
    snr = alpha_bar / (1 - alpha_bar)
    clipped = snr.clamp(max=snr_gamma)
    if prediction == "epsilon":
        return NoisyBatch(x_t, steps.float(), noise, clipped / snr)
    least = torch.where(schedule[-1] > 0, 0.0, LEAST_WEIGHT).to(snr)
    weight = torch.maximum(clipped / (snr + 1), least)
    return NoisyBatch(x_t, steps.float(), a * noise - b * x_0, weight)


def flow_times(uniform: Float[Tensor, "batch 2"], *, shift: float) -> Float[Tensor, "batch"]:  # noqa: F821
    """Noise levels s in [0, 1]: the first column is the draw, the second chooses the density."""
    inside = uniform[:, 0].clamp(1e-6, 1 - 1e-6)
    s = torch.where(uniform[:, 1] < UNIFORM_SHARE, uniform[:, 0], torch.sigmoid(torch.special.ndtri(inside)))
    return shift * s / (1 + (shift - 1) * s)


def alphas_cumprod(*, zero_terminal_snr: bool) -> Float[Tensor, "1000"]:
    """Stable Diffusion's schedule: betas linear in their square roots from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS, dtype=torch.float32) ** 2
    if zero_terminal_snr:
        betas = rescale_zero_terminal_snr(betas)
    return torch.cumprod(1 - betas, dim=0)


def matching_scheduler(prediction: Prediction) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ 2M (arXiv 2211.01095) for networks trained on `prediction`; stock diffusers opens it."""
    if prediction == "flow":
        return DPMSolverMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=1.0,
            final_sigmas_type="zero",
            steps_offset=1,
        )
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction" if prediction == "v" else "epsilon",
        rescale_betas_zero_snr=prediction == "v",
        timestep_spacing="trailing" if prediction == "v" else "linspace",
        steps_offset=1,
    )
