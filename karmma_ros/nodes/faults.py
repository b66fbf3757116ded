# SPDX-License-Identifier: Apache-2.0
"""Bad input and failures: counted always, logged once per cause and period, with the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from karmma_ros.errors import KarmmaError, SampleError

__all__ = ["REMEDIES", "FaultLog", "describe"]


_HEADER = "the driver fills in the header wrongly: report it there"
_SPOILED = "the camera, its cable or its driver spoils it: look at them, or take raw images"
_COLOURS = "set the driver to rgb8, bgr8 or mono8"
_DETECTOR = "the detector computes wrongly: report it there"
# What to do about a cause, where its text does not say so itself.
REMEDIES = {
    "unsupported encoding": "set the driver to rgb8, bgr8, mono8, yuv422 or a bayer format",
    "image is empty": _HEADER,
    "image has no data": _HEADER,
    "image is too large": "lower its resolution, or raise image.max_pixels or flow.max_pixels",
    "image is too small": "raise the camera's resolution",
    "odd size": "set the driver to an even width and height",
    "wrong step": _HEADER,
    "wrong data size": _HEADER,
    "image has no usable number of channels": _COLOURS,
    "image cannot be converted": _COLOURS,
    "image is not finite": "publish floats in [0, 1]",
    "image is out of range": "publish floats in [0, 1]",
    "image is neither JPEG nor PNG": "set the format of compressed images to jpeg or png",
    "image is truncated": _SPOILED,
    "image is damaged": _SPOILED,
    "image cannot be decompressed": _SPOILED,
    "flow is not 32FC2": "publish flow as 32FC2, (x, y) in pixels",
    "flow is not finite": "publish 0 where no motion is known, or no field",
    "flow has no interval": "publish fields with increasing stamps, or flow in pixels per second",
    "audio is out of range": "publish samples in [-1, 1]",
    "audio is not finite": "publish samples in [-1, 1]",
    "audio is empty": "the driver sends chunks without samples: report it there",
    "audio has a wrong size": "publish whole samples, as many for each channel",
    "audio chunk is too long": "publish shorter chunks or raise audio.max_chunk",
    "audio has no usable sample rate": "set sample_rate",
    "audio has no usable number of channels": "set channels",
    "audio has no format yet": "remap audio_info to the driver's AudioInfo",
    "audio is too old": "its stamps go back: look at the driver's clock",
    "sample rate cannot be converted": "set the driver to 16000, 44100 or 48000 Hz",
    "too many detections": "raise the detector's threshold or detections.max_boxes",
    "detections are not finite": _DETECTOR,
    "detections have no size": _DETECTOR,
    "malformed message": "build its publisher and this node with the same version of its package",
    "impossible stamp": _HEADER,
    "prediction cannot be": "remap action_node/actions to an action_node of this version",
    "EngineError": "if it goes on, clean up the node and configure it again; `karmma doctor` tells what runs here",
    "OCCLUDED": "look whether something covers the lens",
    "FROZEN": "the driver repeats itself: restart it",
    "MUTED": "look whether the microphone is muted or unplugged",
    "CORRUPT": "what is published as flow is noise: look at its source and unit",
}
_MISTAKE = "a mistake of karmma_ros: report it with this line"


def describe(error: Exception) -> str:
    """An exception in one line: its text, and its type unless it is one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, KarmmaError) else f"{type(error).__name__}: {text}"


def _place(error: Exception) -> str:
    """Where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""


class FaultLog:
    """Counts faults by cause and says each one now and then.

    A sensor that is set up wrongly fails thirty times a second; one line each ten seconds is read, the flood is not.
    """

    PERIOD_S = 10.0  # [s] between two lines about the same cause

    def __init__(self, say: Callable[[str], None]) -> None:
        """:param say: logs one line."""
        self._say = say
        self._said_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # "sensor: cause" -> how often

    def report(self, where: str, error: Exception, now_s: float) -> None:
        """Counts a fault; `where` is the sensor or stage it happened in."""
        cause = error.cause if isinstance(error, SampleError) else type(error).__name__
        if isinstance(error, KarmmaError):
            self._count(where, cause, str(error), now_s, REMEDIES.get(cause, ""))
        else:
            ours = not isinstance(error, MemoryError | OSError)
            self._count(where, cause, describe(error) + _place(error), now_s, _MISTAKE if ours else "")

    def state(self, where: str, state: str, now_s: float) -> None:
        """Counts that the sensor `where` has become, say, OCCLUDED."""
        self._count(where, state, state, now_s, REMEDIES.get(state, ""))

    def _count(self, where: str, cause: str, text: str, now_s: float, remedy: str) -> None:
        key = f"{where}: {cause}"
        self.counts[key] += 1
        self._unsaid[key] += 1
        said_s = self._said_s.get(key)
        if said_s is not None and now_s - said_s < self.PERIOD_S:
            return
        self._said_s[key] = now_s
        times = self._unsaid.pop(key)
        line = f"{where}: {' '.join(text.split())}"
        if remedy:
            line += f": {remedy}"
        self._say(line + (f" ({times} times)" if times > 1 else ""))
