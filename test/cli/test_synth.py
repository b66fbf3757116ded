# SPDX-License-Identifier: Apache-2.0
"""`karmma synth`: a data set that is complete, lossless, and the same for the same seed."""

from __future__ import annotations

import csv
import hashlib
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from karmma_ros.flow import FlowProducer
from karmma_ros.media import read_video
from karmma_ros.synthesis import COLUMNS, FLOW_SIZE, Job, plan, render
from karmma_ros.tabletop.sequence import make_sequence
from karmma_ros.tabletop.vocabulary import ACTIONS


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def test_a_data_set_is_complete_and_the_same_for_the_same_seed(karmma: Any, tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    assert karmma("synth", one, "--clips", 2, "--sequences", 1, "--minutes", 0.05, "--seed", 5).status == 0
    options = ("--clips", 2, "--sequences", 1, "--minutes", 0.05, "--workers", 1)
    assert karmma("synth", two, *options, "--seed", 5).status == 0
    assert karmma("synth", other, *options, "--seed", 6).status == 0
    assert digests(one) == digests(two)
    assert not set(digests(one).values()) & set(digests(other).values())
    for row in rows(one):
        assert (row["verb"], row["noun"]) in ACTIONS
        assert 0 <= float(row["start_s"]) < float(row["stop_s"])
        with read_video(one / row["video"]) as video:
            stamps = [frame.stamp_ns for frame in video]
        assert float(row["stop_s"]) == pytest.approx(len(stamps) / 30, abs=4) or row["clip_id"].startswith("sequence")
        assert float(row["stop_s"]) <= len(stamps) / 30 + 1e-6
        with np.load(one / row["flow"]) as arrays:
            flow, flow_stamps = arrays["flow"], arrays["stamps_ns"]
        assert (flow.dtype, flow_stamps.dtype) == (np.float16, np.int64)
        assert flow.shape == (len(stamps) - 1, FLOW_SIZE[1], FLOW_SIZE[0], 2)
        assert flow_stamps.tolist() == stamps[1:]
        with wave.open(str(one / row["audio"])) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16000, 1, 2)
            assert sound.getnframes() == pytest.approx(len(stamps) / 30 * 16000, abs=1)


def test_a_recording_holds_exactly_what_was_rendered(tmp_path: Path) -> None:
    (row, *_) = render(Job("sequence-00000", "sequence", "val", 9, 1.0), tmp_path)
    sequence = make_sequence(9, "val", duration_s=1.0, size=(320, 240), fps=30.0)
    assert (row.verb, row.noun) == sequence.action_at(row.start_s)
    with read_video(tmp_path / "sequence-00000.avi") as video:
        frames = list(video)
    producer, fields = FlowProducer(FLOW_SIZE), []
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, sequence.frame(number))
        field = producer.push(frame.stamp_ns, frame.rgb)
        if field is not None:
            fields.append(field)
    with np.load(tmp_path / "sequence-00000.npz") as arrays:
        np.testing.assert_array_equal(arrays["flow"], np.array(fields, np.float16))
    with wave.open(str(tmp_path / "sequence-00000.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(pcm, np.round(np.asarray(sequence.sound()) * 32768))


def test_a_clip_is_its_action_with_what_came_before(tmp_path: Path) -> None:
    """The clip is found again in the sequence it was cut from (by its sound), and its label is what is done there."""
    for seed in range(2):
        (row,) = render(Job(f"clip-{seed:05d}", "clip", "train", seed), tmp_path)
        sequence = make_sequence(seed, "train", duration_s=20.0, size=(320, 240), fps=30.0)
        with read_video(tmp_path / f"{row.name}.avi") as video:
            frames = [frame.rgb for frame in video]
        with wave.open(str(tmp_path / f"{row.name}.wav")) as file:
            sound = file.readframes(400)
        whole = np.round(np.asarray(sequence.sound()) * 32768).astype("<i2").tobytes()
        begin = round(whole.index(sound) / 2 / 16000 * 30)
        np.testing.assert_array_equal(frames[0], sequence.frame(begin))
        np.testing.assert_array_equal(frames[-1], sequence.frame(begin + len(frames) - 1))
        for t_s in np.linspace(row.start_s + 1e-3, row.stop_s - 0.04, 5):
            assert sequence.action_at(begin / 30 + float(t_s)) == (row.verb, row.noun)
        assert row.start_s <= 2.04
        assert 0.5 < row.stop_s - row.start_s <= 4.04


def test_splits_have_their_shares_and_no_scene_in_common() -> None:
    jobs = plan(0, 200, 10, 1.0, (0.7, 0.2, 0.1))
    assert Counter((job.kind, job.split) for job in jobs) == {
        ("clip", "train"): 140,
        ("clip", "val"): 40,
        ("clip", "test"): 20,
        ("sequence", "train"): 7,
        ("sequence", "val"): 2,
        ("sequence", "test"): 1,
    }
    assert len({job.seed for job in jobs}) == len(jobs)
    assert {job.split for job in plan(0, 20, 0, 1.0, (0.0, 0.0, 1.0))} == {"test"}


def test_the_contact_sheet_has_a_row_for_every_action(karmma: Any, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    assert karmma("synth", "--contact-sheet", path).status == 0
    sheet = cv2.imread(str(path))
    rows_in_column = -(-len(ACTIONS) // 2)
    assert sheet.shape[0] >= rows_in_column * 120
    assert sheet.shape[1] >= 2 * 6 * 160
