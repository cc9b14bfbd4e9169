"""Fine-tunings whose weights lie in shards, by accelerate's own FSDP2 code, on the CPU.

As a program under torchrun, `python -m tests.sharded_finetune WORDS -- WORDS ...`, it takes the words of
several runs, one after another. It knows nothing of what is tested with it.
"""

import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from tests import tiny_finetune
from training import finetune_command
from training.options import Options

WRAPPED_LAYERS = ["BasicTransformerBlock", "ResnetBlock2D"]


def sharded_accelerator(options: Options) -> Accelerator:
    """One that prepares for FSDP2, which accelerate by itself never does on CPUs."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision=options.precision)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=WRAPPED_LAYERS,
        cpu_ram_efficient_loading=False,
    )
    if options.precision != "no":
        accelerator.state.fsdp_plugin.set_mixed_precision(options.precision)  # as accelerate does on CUDA
    accelerator.state.distributed_type = DistributedType.FSDP
    assert accelerator.is_fsdp2
    return accelerator


def runs_of(words: list[str]) -> list[list[str]]:
    """The words between the "--"."""
    runs: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            runs.append([])
        else:
            runs[-1].append(word)
    return runs


if __name__ == "__main__":
    finetune_command.accelerator_of = sharded_accelerator
    for words in runs_of(sys.argv[1:]):
        tiny_finetune.run(*words)
    print(f"{torch.distributed.get_world_size()} processes, FSDP", flush=True)
    torch.distributed.destroy_process_group()
