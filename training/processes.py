"""One run in several processes: own rows, flags that any may raise, and tensors that lie there in shards.

Knows nothing of what is trained. Shards are those of FSDP2, torch's `fully_shard`: each process holds a part
of every parameter, gradient and moment as a `DTensor`, and whatever gathers them must run in all processes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from training.optim import OptimizerConfig

Batch = dict[str, Tensor]
OTHER_WAY = "use FSDP2 (examples/accelerate/fsdp2.yaml), which shares out the same state."
SHARDED_KINDS = ("adamw", "schedule_free")
"""Optimizers whose moments have the shapes of their parameters, so that they can be shared out alike."""


def refuse_other_ways(accelerator: Accelerator, config: OptimizerConfig) -> None:
    """ValueError where accelerate would share the run out in a way whose state is not saved."""
    way = accelerator.distributed_type
    if way in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"distributed_type={way.value}: its engine keeps the moments to itself, so that a run "
            f"could not go on elsewhere; {OTHER_WAY}"
        )
    if way == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError(
            "fsdp_version=1: its flat parameters are not saved; set fsdp_version: 2, as "
            "examples/accelerate/fsdp2.yaml does."
        )
    if accelerator.is_fsdp2 and config.kind not in SHARDED_KINDS:
        raise ValueError(
            f"kind={config.kind} under FSDP2: its state is not shaped like the weights and cannot be shared "
            f"out with them; choose from {', '.join(SHARDED_KINDS)}."
        )


def prepared(
    objective: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, Any]:
    """What accelerate makes of both; under FSDP2 the objective's parameters are other objects afterwards."""
    if accelerator.is_fsdp2:
        # `fully_shard` takes no channels_last parameters.
        objective.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # Autocast chooses what is computed in half precision, as in one process. accelerate's own policy
        # would also round the batch's noise and noise levels, the gradients' means and the losses.
        plugin = accelerator.state.fsdp_plugin
        assert plugin is not None
        plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return accelerator.prepare(objective, optimizer)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor as one; all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU; empty where a process does not `keep` them.

    All processes must call it with the same names in the same order. One tensor at a time is whole on the
    device.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if keep or isinstance(tensor, DTensor):
            one = whole(tensor.detach())
            if keep:
                kept[name] = one.cpu()
    return kept


def own_rows(batch: Batch, accelerator: Accelerator, *, parts: int = 1) -> Batch:
    """This process's share of the global batch, on its device; its rows come in `parts` of equal size."""
    rank, world = accelerator.process_index, accelerator.num_processes
    if row_count(batch) % world:
        raise ValueError(
            f"batch of {row_count(batch)} samples cannot be shared evenly by {world} processes; "
            "launch a number of processes that divides it."
        )
    if row_count(batch) // world % parts:
        raise ValueError(
            f"micro_batches={parts}: {row_count(batch) // world} samples of a process cannot be split "
            "evenly; choose a number that divides them."
        )
    return {
        name: (value[rank::world] if value.ndim else value).to(accelerator.device)
        for name, value in batch.items()
    }


def row_count(batch: Batch) -> int:
    return next(len(value) for value in batch.values() if value.ndim)


def any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if accelerator.num_processes == 1:
        return flag
    mine = torch.tensor(float(flag), device=accelerator.device)
    reduced = accelerator.reduce(mine, reduction="sum")
    assert isinstance(reduced, Tensor)
    return bool(reduced > 0)
