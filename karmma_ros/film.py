# SPDX-License-Identifier: Apache-2.0
"""overlay.mp4: a recording's frames with what was said about them drawn in, and its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.audio import JOIN_S
from karmma_ros.media import VideoWriter, silent_pieces
from karmma_ros.overlay import PredictionView, draw
from karmma_ros.records import PredictionRecord
from karmma_ros.resample import Resampler
from karmma_ros.samples import to_mono

__all__ = ["Film"]

_NS = 1_000_000_000
# Rates that AAC knows; sound at any other is resampled.
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# A longer step between two frames is a clock that jumped, and nobody wants to wait for it; sound this far from the
# picture is on another clock.
_FAR_NS = 10 * _NS


class Film:
    """Writes the film; a context manager.

    :param size: (width, height) of the frames; others are made to fit.
    :param rate_hz: frames per second, nominal.
    :param origin_ns: the stamp at which the film begins.
    :param sound: (rate [Hz], channels) of the sound to come; None: a film without.
    :raises MediaError: it cannot be encoded. :raises OSError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate_hz: float,
        *,
        origin_ns: int = 0,
        sound: tuple[int, int] | None = None,
    ) -> None:
        self._origin_ns = origin_ns
        self._rate_hz = rate_hz
        self._last_ns: int | None = None
        self._resampler: Resampler | None = None
        self._sound_rate, channels = sound or (0, 0)
        self._stereo = False
        track: tuple[int, int] | None = None
        if sound is not None:
            rate = self._sound_rate if self._sound_rate in _AAC_RATES else _AAC_RATES[-1]
            self._stereo = channels == 2 and rate == self._sound_rate
            if rate != self._sound_rate:
                self._resampler = Resampler(self._sound_rate, rate)
            track = (rate, 2 if self._stereo else 1)
        self._heard = 0  # samples written so far, before resampling
        self._writer = VideoWriter(path, size, rate_hz, sound=track)

    def add_frame(
        self,
        rgb: npt.NDArray[np.uint8],
        record: PredictionRecord,
        *,
        processing_s: float,
        truth: str | None = None,
        seen: bool = True,
    ) -> None:
        """Adds a frame with its prediction drawn in.

        :param rgb: (H, W, 3) uint8.
        :param truth: the true action, where it is known.
        :param seen: False for a frame that is not the prediction's own: a camera that is silent.
        """
        size = self._writer.size
        if rgb.shape[1::-1] != size:
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        view = PredictionView(
            actions=[(label.name, label.score) for label in record.actions],
            truth=truth,
            sensors={name: sensor.state for name, sensor in record.sensors.items()},
            latency_ms=processing_s * 1e3,
            rate_hz=self._rate_hz,
            phase=f"{record.t_s:.2f} s",  # what a person writes down who labels it
            note=record.status.lower().replace("_", " "),
            seen=seen,
        )
        self._writer.write(draw(rgb, view), self._time_ns(record.stamp_ns))

    def _time_ns(self, stamp_ns: int) -> int:
        """The film's time of a frame; after a jump of the recording's clock it goes on, with the sound it has."""
        if self._last_ns is not None and not 0 < stamp_ns - self._last_ns <= _FAR_NS:
            next_ns = self._last_ns - self._origin_ns + round(_NS / self._rate_hz)
            heard_ns = self._heard * _NS // self._sound_rate if self._sound_rate else 0
            self._origin_ns = stamp_ns - max(next_ns, heard_ns)
        self._last_ns = stamp_ns
        return stamp_ns - self._origin_ns

    def add_sound(self, stamp_ns: int, samples: npt.NDArray[Any], rate: int) -> None:
        """Adds sound at its time: what is missing before it is silence, what is there already is left out.

        :param stamp_ns: of the first sample.
        :param samples: (n, channels); sound at another rate than the film's is left out.
        """
        if rate != self._sound_rate:
            return
        if abs(stamp_ns - (self._origin_ns if self._last_ns is None else self._last_ns)) > _FAR_NS:
            return
        gap = round((stamp_ns - self._origin_ns) * rate / _NS) - self._heard
        samples = samples if self._stereo and samples.shape[1] == 2 else to_mono(samples)[:, np.newaxis]
        if self._stereo and samples.shape[1] == 1:
            samples = np.repeat(samples, 2, axis=1)
        if abs(gap) <= JOIN_S * rate:  # jitter of the stamps
            gap = 0
        for silence in silent_pieces(gap, samples.shape[1], rate):
            self._write_sound(silence)
        self._write_sound(samples[-gap:] if gap < 0 else samples)

    def _write_sound(self, samples: npt.NDArray[np.float32]) -> None:
        self._heard += len(samples)
        if self._resampler is not None:
            samples = self._resampler.process(samples[:, 0])
        self._writer.write_sound(samples)

    def __enter__(self) -> Film:
        self._writer.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._writer.__exit__(*exc)
