# SPDX-License-Identifier: Apache-2.0
"""`karmma replay` on real bags: the node's own predictions, the same for the same bag, whatever is wrong with it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_helpers import NS, SMALL, SMALL_INTERVALS, START_NS, Recording, changes, everything, frame_stamps, picture
from cli_helpers import Outcome, said

from karmma_ros.bags.health_picture import _STATES
from karmma_ros.bags.intervals import BagIntervals, Interval
from karmma_ros.bags.reader import Bag, header_ns
from karmma_ros.decode import audio_to_chunk, compressed_to_rgb, flow_to_field, scale_flow
from karmma_ros.media import read_audio, read_video
from karmma_ros.recognizer import Recognizer


@pytest.fixture
def replay(karmma: Any, bundle: Path, tmp_path: Path) -> Any:
    """Runs the command on a bag and reads what it wrote."""

    def run(path: Path, *options: object, film: bool = False) -> Outcome:
        out = tmp_path / "results" / path.name
        shutil.rmtree(out, ignore_errors=True)
        shown = () if film else ("--no-overlay",)
        result = karmma("replay", path, "--bundle", bundle, "--out", out, *shown, *options)
        assert result.status == 0, result.err
        assert result.err == ""
        return Outcome(out)

    return run


def test_the_shipped_bag_is_recognised_by_the_shipped_bundle(karmma: Any, tmp_path: Path) -> None:
    result = karmma(
        "replay", SMALL, "--bundle", "tabletop", "--truth", SMALL_INTERVALS, "--out", tmp_path, "--no-overlay"
    )
    assert result.status == 0, result.err
    outcome = Outcome(tmp_path)
    with Bag(SMALL) as bag:
        stamps = [header_ns(m.decode()) for m in bag.messages(["/camera/image_raw/compressed"])]
    assert outcome.stamps() == stamps
    assert {record.trigger for record in outcome.records} == {"CAMERA"}
    assert outcome.summary["overall"]["accuracy"] > 0.6
    assert outcome.summary["truth"]["actions"].keys() == {"wipe flask", "turn bottle"}
    assert outcome.summary["bag"]["topics"] == {
        "video": "/camera/image_raw/compressed",
        "flow": "/flow",
        "audio": "/audio",
    }
    for name in ("video", "flow", "audio"):
        assert outcome.records[-1].sensors[name].coverage > 0.8
        assert list(changes(outcome.states(name)))[-1] == "OK"
    with (tmp_path / "events.csv").open(newline="") as file:
        starts = {row["action"]: float(row["start_s"]) for row in csv.DictReader(file)}
    assert starts["wipe flask"] < 1 < 2 < starts["turn bottle"] < 4.5
    assert outcome.summary["truth"]["events"]["found"] == outcome.summary["truth"]["events"]["true"] == 2


def test_the_same_bag_gives_the_same_bytes_in_another_process(tmp_path: Path, karmma: Any) -> None:
    """With the bundle that ships, and flow computed; whatever order that process keeps sets in, and computes beside."""
    command = ["replay", str(SMALL), "--bundle", "tabletop", "--flow", "camera", "--no-overlay"]
    assert karmma(*command, "--out", tmp_path / "here").status == 0
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "karmma_ros.cli.main", *command, "--out", str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            timeout=120,
        )
    written = ("predictions.jsonl", "predictions.csv", "events.csv", "health.png")
    folders = [tmp_path / name for name in ("here", "1", "2")]
    here, one, two = ([(folder / file).read_bytes() for file in written] for folder in folders)
    assert here == one == two
    summaries = [Outcome(folder).summary for folder in folders]
    for summary in summaries:
        assert summary.pop("processing_ms")["p50"] > 0
        assert summary.pop("speed") > 0
    here, one, two = (json.dumps(summary) for summary in summaries)  # the order of its keys too
    assert here == one == two


def test_it_says_what_the_recogniser_says(replay: Any, bundle: Path) -> None:
    """The bag's samples, pushed by hand in order of log time, give the same scores."""
    recognizer = Recognizer(bundle)
    expected = []
    with Bag(SMALL) as bag:
        for message in bag.messages(["/camera/image_raw/compressed", "/flow", "/audio"]):
            decoded = message.decode()
            stamp_ns = header_ns(decoded)
            if message.topic.name == "/audio":
                samples, rate = audio_to_chunk(decoded)
                recognizer.push("audio", stamp_ns, samples, rate)
            elif message.topic.name == "/flow":
                recognizer.push("flow", stamp_ns, scale_flow(flow_to_field(decoded), "pixels_per_second"))
            else:
                recognizer.push("video", stamp_ns, compressed_to_rgb(decoded))
                actions = recognizer.predict(stamp_ns).actions
                expected.append([(label.id, round(label.score, 6)) for label in actions])
    assert [said(record) for record in replay(SMALL).records] == expected


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_both_storages_and_single_files_are_read(replay: Any, tmp_path: Path, storage: str) -> None:
    path = everything(1.0).write(tmp_path / "bag", storage=storage)
    whole = replay(path)
    (file,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    assert replay(file).records == whole.records
    assert len(whole.records) == 30


def test_raw_and_compressed_pictures_are_seen_alike(replay: Any, tmp_path: Path) -> None:
    raw = replay(everything(1.0).write(tmp_path / "raw"))
    jpeg = replay(everything(1.0, compressed=True, topic="/camera/image_raw/compressed").write(tmp_path / "jpeg"))
    assert raw.stamps() == jpeg.stamps()
    for a, b in zip(raw.records, jpeg.records, strict=True):
        assert {s.id: s.score for s in a.actions} == pytest.approx({s.id: s.score for s in b.actions}, abs=0.02)
    assert [said(r) for r in raw.records] != [said(r) for r in jpeg.records]


def test_while_the_camera_is_silent_the_timer_predicts(replay: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(4.0)
    kept = [s for s in stamps if not 1.5 <= (s - START_NS) / NS < 2.5]
    outcome = replay(Recording().camera(kept).flow(kept[1:]).sound(4.0).write(tmp_path / "bag"))
    assert abs(len(outcome.records) - len(stamps)) <= 1
    times = np.array(outcome.stamps())
    assert np.all(np.diff(times) > 0)
    by_camera = [record.stamp_ns for record in outcome.records if record.trigger == "CAMERA"]
    assert set(by_camera) <= set(kept)
    assert len(by_camera) >= len(kept) - 1
    gap = [r for r in outcome.records if 1.6 < r.t_s < 2.45]
    assert {record.trigger for record in gap} == {"TIMER"}
    assert len(gap) == pytest.approx(0.85 * 30, abs=1)
    assert list(changes(outcome.states("video"))) == ["OK", "STALE", "OK"]
    assert outcome.summary["sensors"]["video"]["states"]["STALE"] == pytest.approx(1 / 4, abs=0.06)


def test_sound_alone_is_predicted_from_and_filmed(replay: Any, tmp_path: Path) -> None:
    outcome = replay(Recording().sound(2.0).write(tmp_path / "bag"), film=True)
    assert len(outcome.records) == pytest.approx(2.0 * 30, abs=6)
    assert {record.trigger for record in outcome.records} == {"TIMER"}
    assert outcome.records[-1].status == "OK"
    sound = read_audio(outcome.folder / "overlay.mp4")
    assert sound is not None
    with sound:
        assert sum(len(chunk.samples) for chunk in sound) / sound.rate > 1.5


def test_arrival_is_by_log_time_and_stamps_align(replay: Any, tmp_path: Path) -> None:
    """A microphone whose driver is half a window late: its sound fills its slots only once it is there."""
    stamps = frame_stamps(2.0)
    prompt = replay(Recording().camera(stamps).sound(2.0).write(tmp_path / "prompt"), "--flow", "none")
    late = replay(Recording().camera(stamps).sound(2.0, lag_s=0.5).write(tmp_path / "late"), "--flow", "none")
    last = len(stamps) - 1
    assert prompt.stamps()[: last + 1] == late.stamps()[: last + 1] == stamps
    assert prompt.records[last].sensors["audio"].coverage > 0.85
    assert 0.3 < late.records[last].sensors["audio"].coverage < 0.6


def test_a_stamp_offset_aligns_a_sensor_whose_stamps_lag(replay: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(2.0)
    right = Recording().camera(stamps).sound(2.0).write(tmp_path / "right")
    wrong = Recording().camera(stamps)
    shifted = Recording().sound(2.0, start_ns=START_NS - NS, lag_s=1.005)
    wrong.events += shifted.events
    path = wrong.write(tmp_path / "wrong")
    expected = [said(record) for record in replay(right).records]
    assert [said(record) for record in replay(path).records] != expected
    assert [said(record) for record in replay(path, "--stamp-offset", "audio=1.0").records] == expected


def test_a_recording_whose_stamps_start_again_starts_again(replay: Any, tmp_path: Path) -> None:
    recording = Recording().camera(frame_stamps(3.0, START_NS + 100 * NS))
    again = frame_stamps(3.0, START_NS)
    for index, stamp in enumerate(again):
        log = START_NS + 103 * NS + (stamp - START_NS) + NS // 100
        recording.add(log, lambda bag, s=stamp, i=index, g=log: bag.image("/camera/image_raw", s, picture(i), log_ns=g))
    outcome = replay(recording.write(tmp_path / "bag"), film=True)
    assert outcome.summary["restarts"] == 1
    assert set(again[25:]) <= set(outcome.stamps())
    assert outcome.records[-1].sensors["video"].received <= len(again)  # counted anew
    with read_video(outcome.folder / "overlay.mp4") as film:
        assert film.duration_s == pytest.approx(len(outcome.records) / 30, abs=1.1)


def test_flow_is_computed_where_the_bag_has_none(replay: Any, tmp_path: Path) -> None:
    path = Recording().camera(frame_stamps(1.5)).sound(1.5).write(tmp_path / "bag")
    computed = replay(path)
    assert computed.summary["bag"]["topics"]["flow"] == "computed from the camera"
    assert computed.records[-1].sensors["flow"].coverage > 0.8
    unused = replay(path, "--modalities", "video", "audio")
    assert "flow" not in unused.summary["bag"]["topics"]
    without = replay(path, "--flow", "none")
    assert set(without.states("flow")) == {"WAITING"}
    assert without.records[-1].sensors["flow"].coverage == 0


@pytest.mark.parametrize("computed", [True, False])
def test_the_first_of_flow_says_nothing_and_is_a_sign_of_life(replay: Any, tmp_path: Path, computed: bool) -> None:
    """As on the robot: a frame that none came before, or a field in pixels per frame that none came before."""
    stamps = frame_stamps(1.0)
    recording = Recording().camera(stamps)
    if not computed:
        recording.flow(stamps)
    outcome = replay(recording.write(tmp_path / "bag"), "--flow-unit", "pixels_per_frame")
    assert outcome.states("flow")[:3] == ["WAITING", "OK", "OK"]
    assert [coverage > 0 for coverage in outcome.coverages("flow")[:3]] == [False, False, True]


def test_a_modality_left_out_is_disabled(replay: Any) -> None:
    outcome = replay(SMALL, "--modalities", "video", "audio")
    assert set(outcome.states("flow")) == {"DISABLED"}
    assert outcome.records[-1].sensors["flow"].coverage == 0
    assert outcome.records[-1].sensors["video"].coverage > 0.9


def test_no_flow_is_computed_of_a_covered_camera(replay: Any, tmp_path: Path) -> None:
    """As on the robot, where none is published then: flow goes stale with the camera."""
    stamps = frame_stamps(4.0)

    def seen(index: int) -> np.ndarray:
        return np.zeros((48, 64, 3), np.uint8) if 45 <= index < 90 else picture(index)

    outcome = replay(Recording().camera(stamps, pictures=seen).write(tmp_path / "bag"))
    covered = [record for record in outcome.records if 2.0 < record.t_s < 2.9]
    assert {record.sensors["video"].state for record in covered} == {"OCCLUDED"}
    assert {record.sensors["flow"].state for record in covered} == {"STALE"}
    assert outcome.records[-1].sensors["flow"].state == "OK"


def test_covered_muted_and_damaged_sensors_are_told(replay: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)
    black = np.zeros((48, 64, 3), np.uint8)
    recording = Recording().camera(stamps, pictures=lambda i: black if i >= 45 else picture(i))
    recording.sound(3.0, level=0.0)
    for stamp in stamps[::3]:

        def broken(bag: Any, stamp: int = stamp) -> None:
            bag.flow("/flow", stamp, np.full((12, 16, 2), np.nan, np.float32), log_ns=stamp + NS // 50)

        recording.add(stamp + NS // 50, broken)
    outcome = replay(recording.write(tmp_path / "bag"))
    assert list(changes(outcome.states("video"))) == ["OK", "OCCLUDED"]
    assert outcome.states("audio")[-1] == "MUTED"
    assert outcome.states("flow")[-1] == "CORRUPT"
    assert outcome.summary["sensors"]["flow"]["faults"] == {"flow is not finite": 30}
    health = cv2.cvtColor(cv2.imread(str(outcome.folder / "health.png")), cv2.COLOR_BGR2RGB)
    for state in ("OK", "OCCLUDED", "MUTED", "CORRUPT"):
        assert np.all(health == _STATES[state], axis=2).sum() > 2000, state
    assert np.all(health == _STATES["FROZEN"], axis=2).sum() == 0


def test_the_film_has_a_frame_for_every_prediction_and_the_sound(replay: Any, tmp_path: Path) -> None:
    stamps = [s for s in frame_stamps(3.0) if not 1.0 <= (s - START_NS) / NS < 1.6]
    bag = Recording().camera(stamps, pictures=lambda i: picture(i, height=240, width=320)).sound(3.0)
    outcome = replay(bag.write(tmp_path / "bag"), film=True)
    with read_video(outcome.folder / "overlay.mp4") as film:
        frames = list(film)
    assert (film.width, film.height) == (320, 240)
    assert len(frames) == len(outcome.records)
    times = np.array([frame.stamp_ns for frame in frames]) / NS
    np.testing.assert_allclose(times, [record.t_s for record in outcome.records], atol=2e-3)
    gap = frames[int(np.searchsorted(times, 1.5))].rgb[60:120]
    assert gap.mean() < 0.6 * frames[5].rgb[60:120].mean()  # darkened: the camera is silent
    sound = read_audio(outcome.folder / "overlay.mp4")
    assert sound is not None
    with sound:
        assert sum(len(chunk.samples) for chunk in sound) / sound.rate == pytest.approx(3.0, abs=0.2)


def test_the_csv_says_the_same_as_the_records(replay: Any) -> None:
    outcome = replay(SMALL, "--truth", SMALL_INTERVALS)
    with (outcome.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(outcome.records)
    for row, record in zip(rows, outcome.records, strict=True):
        assert int(row["stamp_ns"]) == record.stamp_ns
        assert (row["action"], float(row["score"])) == (record.actions[0].name, record.actions[0].score)
        assert row["video_state"] == record.sensors["video"].state
        assert row["truth"] == ("wipe flask" if record.t_s < 2.598194 else "turn bottle")


# --- choosing topics -------------------------------------------------------------------------------------------------


def two_cameras(folder: Path) -> Path:
    stamps = frame_stamps(0.5)
    recording = Recording().camera(stamps, topic="/left/image").camera(stamps, topic="/right/image")
    return recording.write(folder / "two")


def test_of_several_cameras_one_has_to_be_chosen(replay: Any, karmma: Any, tmp_path: Path) -> None:
    path = two_cameras(tmp_path)
    result = karmma("replay", path, "--out", tmp_path / "out")
    assert result.status == 2
    assert "/left/image, /right/image could all be meant: choose one with --image" in result.err
    assert not (tmp_path / "out").exists()
    assert replay(path, "--image", "/right/image").summary["bag"]["topics"]["video"] == "/right/image"


def test_depth_is_no_camera_and_the_raw_twin_is_taken(replay: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(0.5)
    recording = Recording().camera(stamps).camera(stamps, topic="/camera/image_raw/compressed", compressed=True)

    def depth(bag: Any) -> None:
        types = bag.types.types
        stamp = types["builtin_interfaces/msg/Time"](sec=1_700_000_000, nanosec=5)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
        data = np.zeros(48 * 64 * 2, np.uint8)
        kind = "sensor_msgs/msg/Image"
        message = types[kind](header, 48, 64, "16UC1", 0, 128, data)
        bag.message("/depth/image", kind, message, log_ns=START_NS)

    recording.add(START_NS, depth)
    topics = replay(recording.write(tmp_path / "bag")).summary["bag"]["topics"]
    assert topics["video"] == "/camera/image_raw"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--image", "/nowhere"), "--image /nowhere: no such topic"),
        (("--image", "/audio"), "--image /audio: is karmma_msgs/msg/Audio, not sensor_msgs/msg/Image"),
        (("--image", "none", "--flow", "none", "--audio", "none"), "nothing to replay"),
        (("--stamp-offset", "smell=1"), "is not MODALITY=SECONDS"),
        (("--image", "none", "--flow", "camera"), "no camera"),
    ],
)
def test_a_choice_that_cannot_be_is_one_line(karmma: Any, tmp_path: Path, options: Any, line: str) -> None:
    result = karmma("replay", SMALL, "--out", tmp_path / "out", *options)
    assert result.status == 2
    assert line in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- truth -----------------------------------------------------------------------------------------------------------


def intervals(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_truth_scores_what_was_said(replay: Any, bundle: Path, tmp_path: Path) -> None:
    best = [record.actions[0].name for record in replay(SMALL).records]
    common = max(set(best), key=best.count)
    verb, _, noun = common.partition(" ")
    times = [record.t_s for record in replay(SMALL).records]
    truth = intervals(tmp_path / "t.csv", "start_s,stop_s,verb,noun", f"1,3,{verb},{noun or 'none'}", "3,5,fly,kite")
    scores = replay(SMALL, "--truth", truth).summary["truth"]
    first = [name == common for name, t in zip(best, times, strict=True) if 1 <= t < 3]
    assert scores["scored"] == sum(1 <= t < 5 for t in times)
    assert scores["actions"][common]["accuracy"] == pytest.approx(np.mean(first), abs=1e-3)
    assert scores["actions"]["fly kite"]["accuracy"] == 0
    assert scores["unknown"] == ["fly kite"]
    settled = [name == common for name, t in zip(best, times, strict=True) if 1 <= t <= 2.5]
    count = sum(3.5 <= t < 5 for t in times)  # all wrong; what is not labelled beyond is no change
    assert scores["accuracy_settled"] == pytest.approx(sum(settled) / (len(settled) + count), abs=0.02)


def test_absolute_times_are_the_same_times(replay: Any, tmp_path: Path) -> None:
    with Bag(SMALL) as bag:
        message = bag.first("/camera/image_raw/compressed")
        assert message is not None
        start_s = header_ns(message.decode()) / NS
    relative = intervals(tmp_path / "r.csv", "start_s,stop_s,action", "1,3,pour bottle")
    absolute = intervals(tmp_path / "a.csv", "start_s,stop_s,action", f"{start_s + 1},{start_s + 3},pour bottle")
    assert replay(SMALL, "--truth", relative).summary["truth"] == replay(SMALL, "--truth", absolute).summary["truth"]


def test_faults_of_the_truth_are_told_all_at_once(karmma: Any, tmp_path: Path) -> None:
    lines = ("start_s,stop_s,verb,noun", "0,1,pour,cup", "0.5,2,pour,cup", "x,3,pour,cup", "4,3,stir,", "5,6,,cup")
    result = karmma("replay", SMALL, "--truth", intervals(tmp_path / "t.csv", *lines), "--out", tmp_path / "out")
    assert result.status == 2
    for fault in (
        "row 3, start_s: begins before the end of row 2",
        "row 4, start_s: 'x' is not a time",
        "row 5, stop_s: must be later",
        "row 5, noun: no label",
        "row 6, verb: no label",
    ):
        assert fault in result.err
    assert not (tmp_path / "out").exists()


def test_truth_about_another_bag_is_refused(karmma: Any, tmp_path: Path) -> None:
    truth = intervals(tmp_path / "t.csv", "bag,start_s,stop_s,verb,noun", "kitchen,0,1,pour,cup")
    result = karmma("replay", SMALL, "--truth", truth, "--out", tmp_path / "out")
    assert result.status == 2
    assert "no row about bag 'tabletop', only about kitchen" in result.err


# --- bags that cannot be read ----------------------------------------------------------------------------------------


def cut(folder: Path, share: float) -> Path:
    path = folder / "cut.mcap"
    data = (SMALL / "tabletop.mcap").read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_bags_that_cannot_be_read_are_one_line_with_the_remedy(karmma: Any, tmp_path: Path) -> None:
    empty, half, ros1 = tmp_path / "empty", tmp_path / "half", tmp_path / "old.bag"
    empty.mkdir()
    shutil.copytree(SMALL, half)
    (half / "metadata.yaml").unlink()
    ros1.write_bytes(b"#ROSBAG V2.0\n")
    text = tmp_path / "text.txt"
    text.write_text("hello")
    for path, words in (
        (tmp_path / "nowhere", "no such bag"),
        (empty, "no metadata.yaml in it"),
        (half, "give " + str(half / "tabletop.mcap")),
        (ros1, "rosbags-convert"),
        (text, "not a bag"),
        (cut(tmp_path, 0.6), "mcap recover"),
    ):
        result = karmma("replay", path, "--out", tmp_path / "out")
        assert (result.status, result.err.count("\n")) == (2, 1), result.err
        assert words in result.err
    assert not (tmp_path / "out").exists()


def test_damage_in_the_middle_is_one_line_and_leaves_nothing(karmma: Any, tmp_path: Path, bundle: Path) -> None:
    path = tmp_path / "bad.mcap"
    data = bytearray((SMALL / "tabletop.mcap").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    result = karmma("replay", path, "--bundle", bundle, "--out", tmp_path / "out")
    assert (result.status, result.err.count("\n")) == (2, 1), result.err
    assert "damaged after" in result.err
    assert not list((tmp_path / "out").glob("*"))


def test_messages_that_are_none_are_counted(replay: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(1.0)
    recording = Recording().camera(stamps)

    def broken(bag: Any) -> None:
        bag._writer.write(bag._connections["/camera/image_raw"], START_NS + NS // 2, b"\x00\x01\x00\x00\x07")

    recording.add(START_NS + NS // 2, broken)
    outcome = replay(recording.write(tmp_path / "bag"))
    assert outcome.summary["sensors"]["video"]["faults"] == {"message cannot be deserialised": 1}
    assert len([r for r in outcome.records if r.trigger == "CAMERA"]) == 30


def test_stamps_that_cannot_be_are_refused_as_the_node_does(replay: Any, tmp_path: Path) -> None:
    recording = Recording().camera(frame_stamps(1.0))
    for stamp, log in ((0, START_NS + NS // 3), (START_NS + 9 * NS, START_NS + NS // 2)):
        recording.add(log, lambda bag, s=stamp, g=log: bag.image("/camera/image_raw", s, picture(0), log_ns=g))
    outcome = replay(recording.write(tmp_path / "bag"))
    assert outcome.summary["sensors"]["video"]["faults"] == {"no stamp": 1, "stamp in the future": 1}
    assert max(outcome.stamps()) < START_NS + 2 * NS


def test_a_camera_whose_clock_is_ahead_is_set_right_with_its_truth(replay: Any, tmp_path: Path) -> None:
    ahead = frame_stamps(3.0, START_NS + 5 * NS)
    recording = Recording()
    for index, stamp in enumerate(ahead):
        log = stamp - 5 * NS + NS // 100
        recording.add(log, lambda bag, s=stamp, i=index, g=log: bag.image("/camera/image_raw", s, picture(i), log_ns=g))
    path = recording.write(tmp_path / "bag")
    (tmp_path / "truth.csv").write_text("start_s,stop_s,verb,noun\n0,3,tap,box\n")
    outcome = replay(path, "--stamp-offset", "video=-5.0", "--truth", tmp_path / "truth.csv", film=True)
    assert outcome.records[0].t_s == 0.0
    assert outcome.records[-1].t_s == pytest.approx(3.0 - 1 / 30, abs=0.001)
    assert outcome.summary["truth"]["scored"] == len(outcome.records) == 90
    with read_video(outcome.folder / "overlay.mp4") as film:
        assert film.duration_s == pytest.approx(3.0, abs=0.1)


def test_a_short_action_nearby_is_a_change() -> None:
    stretches = [(0.0, 2.0, "tap"), (2.0, 2.3, "lift"), (2.3, 5.0, "tap")]
    truth = BagIntervals([Interval(i, "", start, stop, (name,)) for i, (start, stop, name) in enumerate(stretches)])
    assert truth.settled(1.0, 0.5)
    assert not truth.settled(1.9, 0.5), "the same before and after, and another between"
    assert not truth.settled(2.4, 0.5)
    assert truth.settled(2.9, 0.5)
    assert not truth.settled(9.0, 0.5), "not labelled"
