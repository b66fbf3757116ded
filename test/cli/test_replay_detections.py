# SPDX-License-Identifier: Apache-2.0
"""An object detector in a bag: replayed as the node would have heard it, judged by `karmma record-check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_helpers import NS, START_NS, Box, Recording, frame_stamps, picture
from toy_bundle import make_toy_bundle

from karmma_ros.bags.reader import Bag
from karmma_ros.bags.replay import Replay, ReplaySettings
from karmma_ros.bags.topics import choose
from karmma_ros.recognizer import Recognizer
from karmma_ros.records import read_records

CUP: Box = ("cup", 0.75, 48.0, 24.0, 16.0, 12.0)  # in pictures of 64x48


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with video and detections (hand, cup) that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("toy") / "toy", modalities=("video", "detections"))


def heard(bundle: Path, path: Path, settings: ReplaySettings | None = None) -> tuple[Replay, list[np.ndarray], Any]:
    """A replay of a bag, the boxes that reached the recogniser, and the last record."""
    recognizer = Recognizer(bundle, providers="cpu")
    push, boxes = recognizer.push, []

    def keep(modality: str, stamp_ns: int, sample: Any, *rest: Any) -> Any:
        if modality == "detections":
            boxes.append(sample)
        return push(modality, stamp_ns, sample, *rest)

    recognizer.push = keep  # type: ignore[method-assign]
    with Bag(path) as bag:
        replay = Replay(recognizer, bag, choose(bag, {}), settings)
        *_, last = replay.run(origin_ns=START_NS)
    return replay, boxes, last.record


def recording(seconds: float = 2.5, boxes: Sequence[Box] = (CUP,), **detector: Any) -> Recording:
    stamps = frame_stamps(seconds)
    return Recording().camera(stamps).detections(stamps, boxes=lambda index: boxes, **detector)


def test_boxes_of_a_bag_are_heard(karmma: Any, seeing: Path, tmp_path: Path) -> None:
    bag = recording().write(tmp_path / "bag")
    out = tmp_path / "out"
    result = karmma("replay", bag, "--bundle", seeing, "--out", out, "--no-overlay")
    assert (result.status, result.err) == (0, "")
    last = list(read_records(out / "predictions.jsonl"))[-1]
    assert last.sensors["detections"].state == "OK"
    assert last.sensors["detections"].coverage > 0.8
    summary = json.loads((out / "summary.json").read_text())
    assert summary["bag"]["topics"]["detections"] == "/detections"
    assert summary["sensors"]["detections"]["received"] == 75
    without = karmma("replay", bag, "--bundle", seeing, "--out", out, "--no-overlay", "--detections", "none")
    assert (without.status, without.err) == (0, "")
    last = list(read_records(out / "predictions.jsonl"))[-1]
    assert (last.sensors["detections"].state, last.sensors["detections"].coverage) == ("WAITING", 0.0)


def test_boxes_are_in_the_cameras_pixels(seeing: Path, tmp_path: Path) -> None:
    bag = recording().write(tmp_path / "bag")
    _, boxes, _ = heard(seeing, bag)
    np.testing.assert_allclose(boxes[0], [[40 / 64, 18 / 48, 56 / 64, 30 / 48, 0.75, 1]], atol=1e-6)


def test_boxes_are_turned_with_the_pictures(seeing: Path, tmp_path: Path) -> None:
    bag = recording().write(tmp_path / "bag")
    _, boxes, _ = heard(seeing, bag, ReplaySettings(rotate=90))
    np.testing.assert_allclose(boxes[0], [[1 - 30 / 48, 40 / 64, 1 - 18 / 48, 56 / 64, 0.75, 1]], atol=1e-6)


def test_a_detector_may_have_seen_larger_images(seeing: Path, tmp_path: Path) -> None:
    bag = recording(boxes=[("cup", 0.75, 480.0, 240.0, 160.0, 120.0)]).write(tmp_path / "bag")
    _, boxes, _ = heard(seeing, bag, ReplaySettings(detections_size=(640, 480)))
    np.testing.assert_allclose(boxes[0], [[40 / 64, 18 / 48, 56 / 64, 30 / 48, 0.75, 1]], atol=1e-6)


@pytest.mark.parametrize("size", ["640", "640x", "0x480", "-1x2", "axb"])
def test_a_size_that_is_none_is_refused(karmma: Any, seeing: Path, tmp_path: Path, size: str) -> None:
    bag = recording(0.5).write(tmp_path / "bag")
    result = karmma("replay", bag, "--bundle", seeing, f"--detections-size={size}")
    assert result.status == 2
    assert "WIDTHxHEIGHT, such as 640x480" in result.err


def test_boxes_before_the_first_picture_are_refused(seeing: Path, tmp_path: Path) -> None:
    early = Recording().detections(frame_stamps(0.5)).camera(frame_stamps(2.0, START_NS + NS))
    replay, boxes, _ = heard(seeing, early.write(tmp_path / "bag"))
    assert replay.faults["detections"] == {"detections came before the size of the image is known": 15}
    assert boxes == []


def test_a_covered_lens_shows_no_objects(seeing: Path, tmp_path: Path) -> None:
    """Its detector says that nothing is there, and that is not believed, from the first covered picture on."""
    stamps = frame_stamps(3.0)
    covered = range(75, 90)

    def seen(index: int) -> np.ndarray:
        return np.zeros((48, 64, 3), np.uint8) if index in covered else picture(index)

    made = Recording().camera(stamps, pictures=seen)
    made.detections(stamps, boxes=lambda index: [] if index in covered else [CUP])
    _, boxes, last = heard(seeing, made.write(tmp_path / "bag"))
    assert last.sensors["video"].state == "OCCLUDED"
    assert last.sensors["detections"].state == "OK"  # it goes on, about nothing
    assert len([found for found in boxes if not len(found)]) < 12, "until the gate has made up its mind"
    assert 0.45 <= last.sensors["detections"].coverage <= 0.6, "of the window's second, the covered half is erased"


def test_a_detector_goes_on_while_the_cameras_pictures_are_lost(seeing: Path, tmp_path: Path) -> None:
    stamps = frame_stamps(4.0)
    made = Recording().camera(stamps[:30]).detections(stamps)
    _, boxes, last = heard(seeing, made.write(tmp_path / "bag"))
    assert last.sensors["video"].state == "STALE"
    assert last.sensors["detections"].coverage > 0.8
    assert len(boxes) == len(stamps)


def test_a_camera_that_froze_and_then_died_takes_its_detector_along_no_longer(seeing: Path, tmp_path: Path) -> None:
    stamps = frame_stamps(8.0)
    made = Recording().camera(stamps[:90], pictures=lambda index: picture(min(index, 30))).detections(stamps)
    _, boxes, last = heard(seeing, made.write(tmp_path / "bag"))
    assert last.sensors["video"].state == "STALE"
    assert last.sensors["detections"].coverage > 0.8
    assert 130 < len(boxes) < len(stamps) - 15, "but for the time in which it was frozen"


def test_detectors_that_no_modality_asks_for_are_left_alone(karmma: Any, bundle: Path, tmp_path: Path) -> None:
    stamps = frame_stamps(2.0)
    made = Recording().camera(stamps).detections(stamps).detections(stamps, topic="/other")
    result = karmma("replay", made.write(tmp_path / "bag"), "--bundle", bundle, "--out", tmp_path / "out")
    assert (result.status, result.err) == (0, "")
    assert "detections" not in json.loads((tmp_path / "out" / "summary.json").read_text())["bag"]["topics"]


def test_one_of_two_detectors_is_chosen(karmma: Any, seeing: Path, tmp_path: Path) -> None:
    stamps = frame_stamps(2.0)
    bag = Recording().camera(stamps).detections(stamps).detections(stamps, topic="/other").write(tmp_path / "bag")
    command = ["replay", bag, "--bundle", seeing, "--out", tmp_path / "out", "--no-overlay"]
    result = karmma(*command)
    assert result.status != 0
    assert "/detections, /other could all be meant: choose one with --detections" in result.err
    assert karmma(*command, "--detections", "/other").status == 0


def test_the_check_says_what_was_detected(karmma: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)

    def found(index: int) -> list[Box]:
        return [CUP, ("hand", 0.5, 9.0, 9.0, 4.0, 4.0)] if index % 20 else [CUP]

    bag = Recording().camera(stamps).sound(3.0).detections(stamps, boxes=found).write(tmp_path / "bag")
    report = tmp_path / "report.json"
    result = karmma("record-check", bag, "--json", report)
    assert result.status == 0, result.out
    used = {topic["modality"]: topic for topic in json.loads(report.read_text())["used"]}
    assert used["detections"]["details"] == "cup, hand"
    assert used["detections"]["lag_s"] == pytest.approx(0.03, abs=1e-6)


def test_the_check_finds_boxes_that_are_none(karmma: Any, tmp_path: Path) -> None:
    bag = recording(boxes=[("cup", 0.5, 9.0, 9.0, 0.0, 4.0)]).sound(2.5).write(tmp_path / "bag")
    result = karmma("record-check", bag)
    assert result.status == 1
    assert "detections have no size" in result.out
