# SPDX-License-Identifier: Apache-2.0
"""Which sensors work when: the demo's sequence of failures, the same in the player, the summary and the film."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karmma_ros.errors import UsageError
from karmma_ros.records import Phase

__all__ = ["SensorPhase", "SensorScript", "number_at", "sensor_script"]


@dataclass(frozen=True)
class SensorPhase(Phase):
    """A phase and what reaches the node in it.

    `pattern`: the name under which a bundle's evaluation measured these sensors; `loss`: share of frames that get lost,
    each with its flow.
    """

    pattern: str = "all"
    video: bool = True
    flow: bool = True
    audio: bool = True
    loss: float = 0.0


# (name, pattern, what is missing). The flow comes from a sensor of its own (`flow.source: independent`), so it survives
# the camera; what loses half of the frames loses half of the flow fields with them.
_SCRIPT: tuple[tuple[str, str, dict[str, bool | float]], ...] = (
    ("all sensors on", "all", {}),
    ("camera unplugged", "no_camera", {"video": False}),
    ("flow off", "no_flow", {"flow": False}),
    ("microphone off", "no_audio", {"audio": False}),
    ("only the microphone", "audio_only", {"video": False, "flow": False}),
    ("half of the frames lost", "half_frames", {"loss": 0.5}),
    ("all sensors back", "all", {}),
)


@dataclass(frozen=True)
class SensorScript:
    """Phases that follow each other without a gap, and the draw of the lost frames."""

    phases: tuple[SensorPhase, ...]
    seed: int

    def number_at(self, t_s: float) -> int:
        """Number of the phase at `t_s` from the start; the last one holds on after the end."""
        return number_at([phase.end_s for phase in self.phases], t_s)

    def at(self, t_s: float) -> SensorPhase:
        """The phase at `t_s`."""
        return self.phases[self.number_at(t_s)]

    def _lost(self, index: int, phase: SensorPhase) -> bool:
        return bool(phase.loss) and np.random.default_rng([self.seed, index]).random() < phase.loss

    def delivers_frame(self, index: int, t_s: float) -> bool:
        """Whether frame `index`, taken at `t_s`, reaches the node."""
        phase = self.at(t_s)
        return phase.video and not self._lost(index, phase)

    def delivers_flow(self, index: int, t_s: float) -> bool:
        """Whether the flow that ends at frame `index` does."""
        phase = self.at(t_s)
        return phase.flow and not self._lost(index, phase)

    def delivers_audio(self, t_s: float) -> bool:
        """Whether sound taken at `t_s` does."""
        return self.at(t_s).audio


def number_at(ends_s: Sequence[float], t_s: float) -> int:
    """Number of the first span that ends after `t_s`; the last one holds on after the end.

    :param ends_s: ascending.
    """
    return min(bisect_right(ends_s, t_s), len(ends_s) - 1)


def sensor_script(seconds: float, seed: int, rate_hz: float = 30.0) -> SensorScript:
    """The demo's script over `seconds`, in phases of equal length to the nearest frame of `rate_hz`.

    Phases change a quarter of a period before a frame: where the camera is gone, the node predicts for moments that are
    only about those of the missing frames, and each should count in the phase of its frame.

    :raises UsageError: there are not two frames for each phase.
    """
    if seconds * rate_hz < 2 * len(_SCRIPT):
        least_s = 2 * len(_SCRIPT) / rate_hz
        raise UsageError(
            f"{seconds:g} s at {rate_hz:g} frames a second are too few for {len(_SCRIPT)} phases: "
            f"--seconds {least_s:.0f}"
        )
    ends = np.linspace(0.0, seconds, len(_SCRIPT) + 1)
    ends[1:-1] = (np.round(ends[1:-1] * rate_hz) - 0.25) / rate_hz
    phases = tuple(
        SensorPhase(name, float(start), float(end), pattern, **changes)  # type: ignore[arg-type]
        for (name, pattern, changes), start, end in zip(_SCRIPT, ends[:-1], ends[1:], strict=True)
    )
    return SensorScript(phases, seed)
