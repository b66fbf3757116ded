# SPDX-License-Identifier: Apache-2.0
"""torchvision, also where its compiled operators are missing.

Package indexes carry torchvision's CUDA build beside a CPU build of torch; its compiled part does not load there, and
importing torchvision fails because the schemas of two operators are unknown. Declared here first, the import works;
no backbone calls them.
"""

from __future__ import annotations

from types import ModuleType

import torch

__all__ = ["import_torchvision"]

_library: torch.library.Library | None = None  # the declarations last as long as this object


def import_torchvision() -> ModuleType:
    """The module `torchvision`.

    :raises ImportError: it is not installed.
    """
    global _library
    try:
        import torchvision
    except RuntimeError:
        _library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    module: ModuleType = torchvision
    return module
