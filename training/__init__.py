# SPDX-License-Identifier: Apache-2.0
"""Training of KARMMA students (import name `karmma_training`): data, model, optimisation, evaluation, export.

Needs torch, which the robot side never imports. Only its presence is checked here, so that the worker processes that
render data do not pay for loading it.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError(
        "karmma_training needs torch: install the training extra (pip install '.[training]' in the repository)",
        name="torch",
    )
