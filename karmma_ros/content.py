# SPDX-License-Identifier: Apache-2.0
"""Whether what a sensor sends can be what it is pointed at: covered, frozen, muted, garbage.

health.py judges whether samples come; here is judged what is in them, by their stamps, so that a recording is judged
the same however fast it is played. A condition has to last before it counts and to be gone for a while before it no
longer does; the tokens from its onset on are then not to be believed, and the caller erases them.

The measures do not depend on how bright or how loud the world is: a dim kitchen has the texture of a bright one, a
quiet room is never digitally silent. Thresholds and what they cost in false alarms: docs/robustness.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.health import SensorState
from karmma_ros.window import to_ns

__all__ = [
    "CameraGate",
    "FlowGate",
    "Gate",
    "GateLimits",
    "NoGate",
    "SoundGate",
    "Verdict",
    "flow_roughness",
    "level",
    "make_gate",
    "probe",
    "texture",
]

_GRID = (32, 24)  # columns, rows of the averages that texture is taken from: enough pixels each for noise to vanish
_DARK = 10.0  # grey levels added to the mean: below it, noise and black level are all there is
_PROBE = 80  # pixels across, at most, of the samples that are compared and whose roughness is taken
_CLEAR = 1.25  # a condition ends this far beyond the threshold it began at


@dataclass(frozen=True)
class GateLimits:
    """When content makes a sensor a missing modality."""

    occluded: bool = True  # judge whether the camera is covered or black
    occluded_texture: float = 0.055  # below this `texture` it is
    occluded_after_s: float = 0.2
    frozen: bool = True  # judge whether camera or flow send the same content again and again
    frozen_after_s: float = 1.0
    muted: bool = True  # judge whether the microphone is silent
    muted_level: float = 1e-4  # half of peak to peak, of full scale 1 (-80 dB): below it, it is
    muted_after_s: float = 0.5
    garbage: bool = True  # judge whether a flow field is noise
    garbage_roughness: float = 0.5  # above this `flow_roughness` it is
    garbage_speed: float = 20.0  # and above this mean speed, in image widths per second
    garbage_after_s: float = 0.2
    recovery_s: float = 0.2  # that a condition must be gone


class Verdict(NamedTuple):
    """What is thought of a sensor after a sample."""

    state: SensorState  # OK, or what is wrong
    since_ns: int = 0  # while something is wrong: when it began
    fresh: bool = False  # whether this sample made it so: tokens from `since_ns` on are to be erased now


class _Lasting:
    """A condition that counts once it has lasted, until it has been gone for a while."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.on = False
        self.since_ns: int | None = None  # when it began; None while there is no sign of it
        self._gone_ns: int | None = None

    def update(self, begin_ns: int, end_ns: int, holds: bool, *, after_s: float, recovery_s: float) -> None:
        """Takes the next sample, which spans `begin_ns` to `end_ns`."""
        if holds:
            self._gone_ns = None
            if self.since_ns is None:
                self.since_ns = begin_ns
            self.on = self.on or end_ns - self.since_ns >= to_ns(after_s)
        elif not self.on:
            self.since_ns = None
        else:
            if self._gone_ns is None:
                self._gone_ns = begin_ns
            if end_ns - self._gone_ns >= to_ns(recovery_s):
                self.reset()


class Gate(ABC):
    """Judges one sensor's samples, in order of their stamps; one that is not newer than the last changes nothing.

    `limits` may be set at any time; what is switched off is forgotten.
    """

    def __init__(self, limits: GateLimits | None = None) -> None:
        self.limits = limits or GateLimits()
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the stamps start anew."""
        self._last_ns: int | None = None
        self._verdict = Verdict(SensorState.OK)
        self._conditions: defaultdict[SensorState, _Lasting] = defaultdict(_Lasting)

    def judge(self, stamp_ns: int, sample: npt.NDArray[Any], rate: int = 0) -> Verdict:
        """Takes the sensor's next sample.

        :param sample: (H, W, 3) uint8 RGB; (H, W, 2) finite float32, image widths per second; sound (n,) or
            (n, channels), float in [-1, 1].
        :param rate: [Hz] of sound.
        """
        end_ns = stamp_ns + (len(sample) * 10**9 // rate if rate else 0)
        if self._last_ns is not None and end_ns <= self._last_ns:
            return self._verdict._replace(fresh=False)
        self._last_ns = end_ns
        verdict = Verdict(SensorState.OK)
        signs = {sign.state: sign for sign in self._signs(sample)}
        for state in [state for state in self._conditions if state not in signs]:
            del self._conditions[state]
        for state, sign in signs.items():
            condition = self._conditions[state]
            condition.update(stamp_ns, end_ns, sign.shown, after_s=sign.after_s, recovery_s=self.limits.recovery_s)
            if condition.on and condition.since_ns is not None and verdict.state is SensorState.OK:
                verdict = Verdict(state, condition.since_ns, fresh=state is not self._verdict.state)
        self._verdict = verdict
        return verdict

    @abstractmethod
    def _signs(self, sample: npt.NDArray[Any]) -> Iterator[_Sign]:
        """What is looked for in a sample, worst first."""

    def _slack(self, state: SensorState) -> float:
        """Factor on a threshold: while a condition lasts, it takes more to end it."""
        return _CLEAR if self._conditions[state].on else 1.0


class _Sign(NamedTuple):
    """Of one condition."""

    state: SensorState
    shown: bool  # whether the sample shows it
    after_s: float  # how long it has to


class NoGate(Gate):
    """For what carries nothing to judge: boxes are what a detector says, and an empty frame is an answer too."""

    def _signs(self, sample: npt.NDArray[Any]) -> Iterator[_Sign]:
        yield from ()


class CameraGate(Gate):
    """OCCLUDED (covered, or nothing but black) and FROZEN."""

    def reset(self) -> None:
        super().reset()
        self._probe: npt.NDArray[np.uint8] | None = None

    def _signs(self, sample: npt.NDArray[Any]) -> Iterator[_Sign]:
        limits = self.limits
        before, self._probe = self._probe, probe(sample)
        if limits.occluded:
            threshold = limits.occluded_texture * self._slack(SensorState.OCCLUDED)
            yield _Sign(SensorState.OCCLUDED, texture(sample) < threshold, limits.occluded_after_s)
        if limits.frozen:
            yield _Sign(SensorState.FROZEN, _same(before, self._probe), limits.frozen_after_s)


class FlowGate(Gate):
    """CORRUPT (noise, impossible speeds) and FROZEN (the same field again and again, zeros for instance)."""

    def reset(self) -> None:
        super().reset()
        self._probe: npt.NDArray[np.float32] | None = None

    def _signs(self, sample: npt.NDArray[Any]) -> Iterator[_Sign]:
        limits = self.limits
        before, self._probe = self._probe, probe(sample)
        if limits.garbage:
            slack = self._slack(SensorState.CORRUPT)
            speed, roughness = flow_roughness(self._probe)
            garbage = roughness * slack > limits.garbage_roughness or speed * slack > limits.garbage_speed
            yield _Sign(SensorState.CORRUPT, garbage, limits.garbage_after_s)
        if limits.frozen:
            yield _Sign(SensorState.FROZEN, _same(before, self._probe), limits.frozen_after_s)


class SoundGate(Gate):
    """MUTED: no channel carries more than the last bit or two; a constant offset is silence too."""

    def _signs(self, sample: npt.NDArray[Any]) -> Iterator[_Sign]:
        limits = self.limits
        if limits.muted and len(sample):
            threshold = limits.muted_level * self._slack(SensorState.MUTED)
            yield _Sign(SensorState.MUTED, level(sample) < threshold, limits.muted_after_s)


def texture(rgb: npt.NDArray[np.uint8]) -> float:
    """How much the picture is structured, relative to how bright it is; 0 is uniform.

    Mean absolute second difference of averages over a grid, so that neither noise (averaged out) nor light that falls
    off smoothly over a hand before the lens (no second difference) counts, over the mean brightness.

    :param rgb: (H, W, 3) uint8.
    """
    columns, rows = _GRID
    lines = rgb[:: max(1, rgb.shape[0] // (4 * rows))]
    # Cells of whole pixels: OpenCV averages them four times as fast. A few at two edges are left out for it.
    height, width = (
        lines.shape[0] // rows * rows or lines.shape[0],
        lines.shape[1] // columns * columns or lines.shape[1],
    )
    averages = cv2.resize(lines[:height, :width], (columns, rows), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(averages.astype(np.float32), cv2.COLOR_RGB2GRAY)
    across = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    down = grey[2:] - 2 * grey[1:-1] + grey[:-2]
    steps = cv2.norm(across, cv2.NORM_L1) / across.size + cv2.norm(down, cv2.NORM_L1) / down.size
    return float(steps / 2 / (grey.mean() + _DARK))


def flow_roughness(flow: npt.NDArray[np.float32]) -> tuple[float, float]:
    """(mean speed, roughness): roughness is the mean step between neighbours over the mean speed.

    Motion varies smoothly but for edges: real fields have less than 0.3; independent noise has about 1.4.

    :param flow: (H, W, 2) float32, image widths per second.
    """
    field = flow.astype(np.float64)
    speed = float(np.abs(field).mean())
    if speed == 0.0 or min(field.shape[:2]) < 2:
        return speed, 0.0
    steps = np.abs(np.diff(field, axis=0)).mean() + np.abs(np.diff(field, axis=1)).mean()
    return speed, float(steps) / 2 / speed


def level(samples: npt.NDArray[Any]) -> float:
    """Half of peak to peak of the loudest channel; samples (n,) or (n, channels), not empty."""
    return float(np.max(np.ptp(samples, axis=0))) / 2


def make_gate(modality: str, limits: GateLimits | None = None) -> Gate:
    """The gate of a modality.

    :raises KeyError: no such modality.
    """
    gates: dict[str, type[Gate]] = {
        "video": CameraGate,
        "flow": FlowGate,
        "audio": SoundGate,
        "detections": NoGate,
    }
    return gates[modality](limits)


def _same(before: npt.NDArray[Any] | None, now: npt.NDArray[Any]) -> bool:
    return before is not None and np.array_equal(before, now)


def probe(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy of every so many rows and columns: what is compared, and what the roughness of flow is taken from."""
    step = max(1, array.shape[1] // _PROBE)
    return array[::step, ::step].copy()
