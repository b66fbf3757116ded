# SPDX-License-Identifier: Apache-2.0
"""The verbs, nouns and valid actions of the tabletop world, and how often each is drawn."""

from __future__ import annotations

import numpy as np

__all__ = ["ACTIONS", "IDLE", "MATERIALS", "NONE", "NOUNS", "VERBS", "action_weights"]

IDLE = "idle"
NONE = "none"

VERBS: tuple[str, ...] = (IDLE, "lift", "pour", "shake", "slide", "stir", "tap", "turn", "wipe")
NOUNS: tuple[str, ...] = (NONE, "bottle", "bowl", "box", "flask", "mug", "tin")

# bottle/flask and box/tin look alike; flask/tin and bowl/mug sound alike.
MATERIALS: dict[str, str] = {
    "bottle": "glass",
    "bowl": "ceramic",
    "box": "wood",
    "flask": "metal",
    "mug": "ceramic",
    "tin": "metal",
}

_ONLY: dict[str, tuple[str, ...]] = {
    "pour": ("bottle", "bowl", "flask", "mug"),
    "shake": ("bottle", "box", "flask", "tin"),
    "stir": ("bowl", "mug"),
    "turn": ("bottle", "box", "flask", "mug", "tin"),
}

ACTIONS: tuple[tuple[str, str], ...] = (
    (IDLE, NONE),
    *((v, n) for v in VERBS[1:] for n in NOUNS[1:] if n in _ONLY.get(v, NOUNS)),
)


def action_weights() -> dict[tuple[str, str], float]:
    """Relative frequency of every action but idle: a long tail, the commonest about four times the rarest."""
    actions = ACTIONS[1:]
    order = np.random.default_rng(20250408).permutation(len(actions))  # a fixed, arbitrary ranking
    return {action: float(1.0 / (rank + 6.0) ** 0.7) for action, rank in zip(actions, order, strict=True)}
