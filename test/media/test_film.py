# SPDX-License-Identifier: Apache-2.0
"""The film of a recording with holes in it: picture and sound stay together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karmma_ros.film import Film
from karmma_ros.media import read_audio, read_video
from karmma_ros.records import PredictionRecord

NS = 1_000_000_000
FPS, RATE = 10, 16_000
WHITE, BLACK = (np.full((120, 160, 3), level, np.uint8) for level in (255, 0))


Span = tuple[float, float]


def shoot(path: Path, parts: list[tuple[list[Span], Span]], flash_s: float) -> None:
    """A film whose picture is white and whose sound is loud for two periods from `flash_s` on; else black and silent.

    :param parts: of the recording, in order: spans in which there were pictures, and the span of the sound [s].
    """
    with Film(path, (160, 120), FPS, origin_ns=round(parts[0][1][0] * NS), sound=(RATE, 1)) as film:
        for pictures, sound in parts:
            events = [(t, "video", t) for span in pictures for t in times(span)]
            events += [(t + 1 / FPS, "sound", t) for t in times(sound)]
            for _, kind, t in sorted(events):
                on = flash_s - 1e-6 <= t < flash_s + 2 / FPS - 1e-6
                stamp_ns = round(t * NS)
                if kind == "video":
                    record = PredictionRecord(stamp_ns, t, "OK", "CAMERA", "toy")
                    film.add_frame(WHITE if on else BLACK, record, processing_s=0.001)
                else:
                    tone = np.sin(np.arange(RATE // FPS) * 0.4, dtype=np.float32)[:, np.newaxis]
                    film.add_sound(stamp_ns, tone if on else 0 * tone, RATE)


def times(span: Span) -> list[float]:
    return [float(t) for t in np.arange(span[0], span[1] - 1e-6, 1 / FPS)]


def flashes(path: Path) -> tuple[float, float, float]:
    """When the film's picture is first white, when it is first loud, and when its last frame is [s]."""
    with read_video(path) as film:
        frames = [(frame.stamp_ns / NS, frame.rgb[20:60].mean()) for frame in film]
    sound = read_audio(path)
    assert sound is not None
    with sound:
        heard = np.concatenate([chunk.samples[:, 0] for chunk in sound])
    white = next(t for t, level in frames if level > 128)
    return white, float(np.argmax(np.abs(heard) > 0.3)) / RATE, frames[-1][0]


def test_a_camera_that_is_silent_for_a_while_leaves_a_still_picture(tmp_path: Path) -> None:
    shoot(tmp_path / "a.mp4", [([(0, 1), (4, 6)], (0, 6))], flash_s=4.5)
    white, loud, end = flashes(tmp_path / "a.mp4")
    assert white == pytest.approx(4.5, abs=0.01)
    assert loud == pytest.approx(4.5, abs=0.08)  # AAC begins with a frame of its own
    assert end == pytest.approx(5.9, abs=0.01)


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_is_not_waited_for(tmp_path: Path, jump_s: float) -> None:
    """The microphone goes on for a while when the camera is gone; after the jump both are together again."""
    begin, there = 5000, 5000 + jump_s
    parts: list[tuple[list[Span], Span]] = [([(begin, begin + 1)], (begin, begin + 4))]
    parts.append(([(there, there + 2)], (there, there + 2)))
    shoot(tmp_path / "a.mp4", parts, flash_s=there + 0.5)
    white, loud, end = flashes(tmp_path / "a.mp4")
    assert loud == pytest.approx(white, abs=0.08)
    assert 2.9 < end < 7
