# SPDX-License-Identifier: Apache-2.0
"""Training in several processes, on several GPUs or machines: Hugging Face Accelerate over torch.distributed.

    torchrun --nproc-per-node 4 --no-python karmma train --preset demo --out runs/demo

A batch is shared out row by row, so that the gradient is that of one process with the whole batch (batch norm sees its
own process's rows). The first process writes the run folder.
"""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from karmma_ros.errors import UsageError
from karmma_training.config import TrainConfig

__all__ = ["open_accelerator", "own_rows"]


def open_accelerator(train: TrainConfig) -> Accelerator:
    """The processes and the device of this run."""
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
