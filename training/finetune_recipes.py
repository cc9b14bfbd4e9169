"""Named fine-tunings: every number of a run, as typed values.

Knows nothing of how they work. Learning rates are what they say: nothing scales them with the batch or the
number of processes.
"""

from training.finetune import FinetuneRun, PriorConfig
from training.loop import FitConfig
from training.lora import LoraShape
from training.optim import OptimizerConfig

FULL = FinetuneRun(
    name="full",
    method="full",
    fit=FitConfig(
        optimizer=OptimizerConfig(
            learning_rate=1e-5, betas=(0.9, 0.999), warmup_steps=100, cooldown_fraction=0.0
        ),
        total_steps=2000,
        batch_size=8,
        save_every_steps=250,
    ),
)
"""Every weight of the UNet; the result is a whole pipeline folder."""

LORA = FinetuneRun(
    name="lora",
    method="lora",
    fit=FitConfig(
        optimizer=OptimizerConfig(
            learning_rate=1e-4, betas=(0.9, 0.999), warmup_steps=50, cooldown_fraction=0.0
        ),
        total_steps=1500,
        batch_size=8,
        save_every_steps=250,
    ),
    lora=LoraShape(rank=16, alpha=16),
)
"""A style, in a small file beside a base that stays as it is."""

TEXTUAL_INVERSION = FinetuneRun(
    name="textual_inversion",
    method="textual_inversion",
    fit=FitConfig(
        optimizer=OptimizerConfig(
            learning_rate=5e-4,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            warmup_steps=20,
            cooldown_fraction=0.0,
        ),
        total_steps=2000,
        batch_size=4,
        save_every_steps=250,
        average_decay=0.99,
    ),
    empty_share=0.0,
    snr_gamma=None,
)
"""One new word; every caption has to hold it."""

DREAMBOOTH = FinetuneRun(
    name="dreambooth",
    method="lora",
    fit=FitConfig(
        optimizer=OptimizerConfig(
            learning_rate=1e-4, betas=(0.9, 0.999), warmup_steps=20, cooldown_fraction=0.0
        ),
        total_steps=800,
        batch_size=4,
        save_every_steps=100,
        average_decay=0.99,
    ),
    lora=LoraShape(rank=8, alpha=8),
    prior=PriorConfig(pictures=100),
    empty_share=0.0,
)
"""One thing from few pictures, while its class stays as the base draws it; `method=full` for all weights."""

FINETUNES: dict[str, FinetuneRun] = {run.name: run for run in (FULL, LORA, TEXTUAL_INVERSION, DREAMBOOTH)}
