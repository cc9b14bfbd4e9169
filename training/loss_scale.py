"""The loss scale of a run in fp16: what of it is saved, which steps it skips, and when it gives up.

Knows nothing of the loop. A scaler (arXiv 1710.03740) multiplies the loss so that small gradients do not
vanish in fp16, skips the steps in which some overflow, and then halves its scale.
"""

import math
from collections.abc import Iterable
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from training.processes import any_process

MOST_SKIPPED = 20
"""Steps in a row whose gradients overflow, after which no smaller scale will help."""


class LossScale:
    """accelerate's scaler as a run sees it; without one, as in bf16 and fp32, it does nothing."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator, self.scaler = accelerator, accelerator.scaler
        self.skipped = 0
        """Steps skipped in a row."""

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON can."""
        if self.scaler is None:
            return {}
        return {"loss_scale": {"scaler": self.scaler.state_dict(), "skipped": self.skipped}}

    def restore(self, facts: dict[str, Any]) -> None:
        if self.scaler is not None:
            self.scaler.load_state_dict(facts["loss_scale"]["scaler"])
            self.skipped = facts["loss_scale"]["skipped"]

    def will_skip(self, norm: float, parameters: Iterable[nn.Parameter]) -> bool:
        """Whether the gradients overflowed, so that the step now due will be skipped.

        accelerate's own `step_was_skipped` would not tell: the fused AdamW is called all the same, and skips
        inside its kernel.

        Args:
            norm: of the gradients, in all processes the same. One too large for fp32 while every gradient is
                finite is no overflow that the scaler would see.
        """
        if self.scaler is None or math.isfinite(norm):
            return False
        mine = any(not _local(p.grad).isfinite().all() for p in parameters if p.grad is not None)
        return any_process(mine, self.accelerator)

    def count(self, *, skipped: bool, step: int) -> None:
        """Note what became of a step.

        Raises:
            FloatingPointError: the scale fell below 1, or `MOST_SKIPPED` steps in a row were skipped.
        """
        if self.scaler is None:
            return
        self.skipped = self.skipped + 1 if skipped else 0
        scale = self.scaler.get_scale()
        if self.skipped >= MOST_SKIPPED or (skipped and scale < 1):
            raise FloatingPointError(
                f"step {step}: gradients overflow in fp16, {self.skipped} steps in a row, loss scale "
                f"{scale:g}; lower the learning rate, or choose --precision bf16; checkpoints are untouched."
            )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
