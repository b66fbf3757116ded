# SPDX-License-Identifier: Apache-2.0
"""Stamps ahead of log time, which a node refuses: `karmma bag-to-manifest` leaves them out, and times do not count from
them.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_helpers import CHUNK, NS, SOUND_RATE, START_NS, Recording, everything, frame_stamps, picture

from karmma_ros.bags.reader import Bag
from karmma_ros.bags.topics import choose, origin_ns
from karmma_ros.bags.writer import BagWriter
from karmma_ros.media import read_video

AHEAD_NS = 60 * NS
SECONDS = 3.0
Write = Callable[[BagWriter, int, int], None]  # bag, stamp, log time


def field(bag: BagWriter, stamp: int, log: int) -> None:
    bag.flow("/flow", stamp, np.zeros((12, 16, 2), np.float32), log_ns=log)


def frame(bag: BagWriter, stamp: int, log: int) -> None:
    bag.image("/camera/image_raw", stamp, picture(0), log_ns=log)


def chunk(bag: BagWriter, stamp: int, log: int) -> None:
    bag.audio("/audio", stamp, np.zeros(CHUNK, np.float32), SOUND_RATE, log_ns=log)


def one_ahead(write: Write, at_s: float) -> Recording:
    """Everything, and one message more whose stamp is a minute ahead."""
    recording, log = everything(SECONDS), START_NS + round(at_s * NS)
    recording.add(log, lambda bag: write(bag, log + AHEAD_NS, log))
    return recording


@pytest.fixture
def convert(karmma: Any, tmp_path: Path) -> Any:
    """Runs the command over a recording; the bag's media by suffix, what was left out, and the interval as written."""

    def run(recording: Recording) -> tuple[dict[str, Any], dict[str, int], str]:
        table = tmp_path / "labels.csv"
        table.write_text("start_s,stop_s,action\n0.5,2.5,wave\n")
        out, report = tmp_path / "data", tmp_path / "report.json"
        bag = recording.write(tmp_path / "bag")
        options = ["--labels", table, "--out", out, "--json", report, "--split-shares", 1, 0, 0]
        result = karmma("bag-to-manifest", bag, *options)
        assert result.status == 0, result.err
        with read_video(out / "media" / "bag.mp4") as video:
            times = [frame.stamp_ns for frame in video]
        with np.load(out / "media" / "bag.npz") as arrays:
            fields = arrays["stamps_ns"].tolist()
        with wave.open(str(out / "media" / "bag.wav")) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        left_out = json.loads(report.read_text())["bags"]["bag"]["left_out"]
        interval = (out / "manifest.csv").read_text().splitlines()[1].partition(".wav,")[2]
        return {"times": times, "fields": fields, "sound": sound}, left_out, interval

    return run


@pytest.mark.parametrize("at_s", [-0.001, 1.001], ids=["first", "later"])
@pytest.mark.parametrize(("modality", "write"), [("video", frame), ("flow", field), ("audio", chunk)])
def test_one_stamp_ahead_of_log_time_costs_one_sample(convert: Any, modality: str, write: Write, at_s: float) -> None:
    media, left_out, interval = convert(one_ahead(write, at_s))
    stamps = np.array(frame_stamps(SECONDS)) - START_NS
    np.testing.assert_allclose(media["times"], stamps, atol=NS // 90_000)
    assert media["fields"] == stamps[1:].tolist()
    tone = np.round(Recording.tone(SECONDS) * 32768)
    np.testing.assert_allclose(media["sound"], tone[: len(tone) // CHUNK * CHUNK], atol=1)
    assert left_out == {f"{modality}: stamp in the future": 1}
    assert interval == "0.5,2.5,wave"


def test_stamps_of_an_older_clock_are_as_good_as_any(convert: Any) -> None:
    day = 86_400.0
    stamps = frame_stamps(SECONDS)
    old = Recording().camera(stamps, lag_s=day).flow(stamps[1:], lag_s=day).sound(SECONDS, lag_s=day)
    media, left_out, _ = convert(old)
    assert (len(media["times"]), len(media["fields"])) == (len(stamps), len(stamps) - 1)
    assert not left_out


def test_stamps_a_little_ahead_are_as_good_as_any(convert: Any) -> None:
    media, left_out, _ = convert(everything(SECONDS, lag_s=-0.4))
    assert len(media["times"]) == len(frame_stamps(SECONDS))
    assert not left_out


def begin(path: Path) -> int:
    with Bag(path) as bag:
        return origin_ns(bag, choose(bag, {}))[1]


def test_times_count_from_the_first_stamp_that_can_be(tmp_path: Path) -> None:
    assert begin(one_ahead(frame, -0.001).write(tmp_path / "bag")) == START_NS


def test_where_the_whole_camera_is_ahead_times_count_from_its_first_stamp(tmp_path: Path) -> None:
    recording = everything(1.0, lag_s=-5.0)
    recording.add(START_NS - 6 * NS, lambda bag: frame(bag, 0, START_NS - 6 * NS))
    assert begin(recording.write(tmp_path / "bag")) == START_NS
