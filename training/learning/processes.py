# SPDX-License-Identifier: Apache-2.0
"""Training in several processes, on several GPUs or machines: Hugging Face Accelerate over torch.distributed.

    torchrun --nproc-per-node 4 --no-python karmma train --preset demo --out runs/demo

A batch is shared out row by row, so that the gradient is that of one process with the whole batch (batch norm sees its
own process's rows). The first process writes the run folder. On several machines, run folder and sample store lie in
a file system that all of them see.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from karmma_ros.errors import UsageError
from karmma_training.config import TrainConfig

__all__ = ["open_accelerator", "own_rows", "share_statistics"]


def open_accelerator(train: TrainConfig) -> Accelerator:
    """The processes and the device of this run; see `train.precision` for what is in fewer bits."""
    torch.backends.cudnn.allow_tf32 = False  # torch rounds what convolutions read to 10 bits of mantissa otherwise
    # a batch may lack a modality: its extractor gets no gradient then
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=train.device == "cpu", kwargs_handlers=[unused])


def own_rows(accelerator: Accelerator, batch: int) -> range:
    """The rows of every batch that this process trains on.

    :raises UsageError: the batch cannot be shared out evenly.
    """
    if batch % accelerator.num_processes:
        raise UsageError(f"a batch of {batch} cannot be shared by {accelerator.num_processes} processes evenly")
    return range(accelerator.process_index, batch, accelerator.num_processes)


def share_statistics(accelerator: Accelerator, module: nn.Module) -> None:
    """Give every process the first one's batch-norm statistics: each gathers its own, and they are shared out only when
    the next step begins."""
    if accelerator.num_processes > 1:
        for statistic in module.buffers():
            torch.distributed.broadcast(statistic, 0)
