# SPDX-License-Identifier: Apache-2.0
"""Class names: one list per label head, and which combinations of them are valid actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.manifest import Manifest, action_name

__all__ = ["Labels"]


@dataclass(frozen=True)
class Labels:
    """Class names of every head and the valid actions.

    heads: head name -> class names, in index order.
    actions: (A, heads) class index per head of every valid action, in index order.
    """

    heads: dict[str, tuple[str, ...]]
    actions: npt.NDArray[np.int64]

    @classmethod
    def from_names(cls, heads: dict[str, list[str]], actions: Sequence[tuple[str, ...]]) -> Labels:
        """Build from names; an action is one class name per head."""
        names = {head: tuple(classes) for head, classes in heads.items()}
        rows = [[names[head].index(name) for head, name in zip(names, action, strict=True)] for action in actions]
        return cls(names, np.asarray(rows, np.int64).reshape(len(rows), len(names)))

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Labels:
        """Inverse of `to_json`.

        :raises ValueError: not what `to_json` gives.
        """
        try:
            names = {head: tuple(classes) for head, classes in tree["heads"].items()}
            actions = np.asarray(tree["actions"], np.int64).reshape(-1, len(names))
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not class names and actions: {error!r}") from error
        if not names or not all(classes and all(isinstance(c, str) for c in classes) for classes in names.values()):
            raise ValueError("a head without class names")
        if (actions < 0).any() or (actions >= [len(classes) for classes in names.values()]).any():
            raise ValueError("an action of classes that there are not")
        return cls(names, actions)

    @classmethod
    def of_bundle(cls, bundle: Manifest) -> Labels:
        """Those of a bundle; of a single head, every class is an action."""
        alone = np.arange(len(next(iter(bundle.heads.values()))))[:, None]
        return cls(dict(bundle.heads), np.asarray(bundle.actions, np.int64) if bundle.actions else alone)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and manifests."""
        return {"heads": {h: list(c) for h, c in self.heads.items()}, "actions": self.actions.tolist()}

    def sizes(self) -> dict[str, int]:
        """Number of classes per head."""
        return {head: len(classes) for head, classes in self.heads.items()}

    def action_ids(self, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Action index of (n, heads) class indexes; -1 where the combination is no valid action.  -> (n,)"""
        same = (targets[:, None, :] == self.actions[None]).all(-1)  # (n, A)
        return np.where(same.any(1), same.argmax(1), -1).astype(np.int64)

    def action_name(self, index: int) -> str:
        """E.g. `pour mug`; idle is one word."""
        return action_name(*(self.heads[head][k] for head, k in zip(self.heads, self.actions[index], strict=True)))
