# SPDX-License-Identifier: Apache-2.0
"""`karmma bag-to-manifest`: pictures, sound and flow at their own times, and rows that say what a person said."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_helpers import NS, SMALL, SMALL_INTERVALS, SOUND_RATE, START_NS, Recording, everything, frame_stamps, picture

from karmma_ros.bags.reader import Bag, header_ns
from karmma_ros.decode import compressed_to_rgb, flow_to_field
from karmma_ros.media import read_video


def labels(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def convert(karmma: Any, tmp_path: Path) -> Any:
    """Runs the command; the folder it made, and what it printed."""

    def run(*arguments: object) -> tuple[Path, str]:
        out = tmp_path / "data" / str(len(list((tmp_path / "data").glob("*"))))
        result = karmma("bag-to-manifest", *arguments, "--out", out)
        assert result.status == 0, result.err
        return out, result.out

    return run


def sound(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return pcm.reshape(-1, file.getnchannels()), file.getframerate()


def test_pictures_sound_and_flow_keep_their_times(convert: Any) -> None:
    out, _ = convert(SMALL, "--labels", SMALL_INTERVALS, "--lossless")
    with Bag(SMALL) as bag:
        frames = [(header_ns(d), compressed_to_rgb(d)) for d in decoded(bag, "/camera/image_raw/compressed")]
        fields = [(header_ns(d), flow_to_field(d)) for d in decoded(bag, "/flow")]
        heard = np.concatenate([d.samples for d in decoded(bag, "/audio")])
    origin = frames[0][0]
    with read_video(out / "media" / "tabletop.mp4") as video:
        for (stamp, rgb), frame in zip(frames, video, strict=True):
            assert abs(frame.stamp_ns - (stamp - origin)) <= NS // 90_000
            np.testing.assert_array_equal(frame.rgb, rgb)
    with np.load(out / "media" / "tabletop.npz") as arrays:
        assert arrays["stamps_ns"].tolist() == [stamp - origin for stamp, _ in fields]
        expected = np.array([field / field.shape[1] for _, field in fields])
        np.testing.assert_allclose(arrays["flow"], expected, atol=2e-3, rtol=2e-3)
    pcm, rate = sound(out / "media" / "tabletop.wav")
    assert rate == SOUND_RATE
    np.testing.assert_array_equal(pcm[:, 0], np.round(heard * 32768))
    assert rows(out)[0] == {
        "clip_id": "tabletop-0000",
        "split": "train",
        "video": "media/tabletop.mp4",
        "flow": "media/tabletop.npz",
        "audio": "media/tabletop.wav",
        "start_s": "0.0",
        "stop_s": "2.598194",
        "verb": "wipe",
        "noun": "flask",
    }


def decoded(bag: Bag, topic: str) -> list[Any]:
    return [message.decode() for message in bag.messages([topic])]


def test_without_lossless_nothing_can_be_seen_of_it(convert: Any) -> None:
    out, _ = convert(SMALL, "--labels", SMALL_INTERVALS)
    with Bag(SMALL) as bag:
        frames = [compressed_to_rgb(d) for d in decoded(bag, "/camera/image_raw/compressed")]
    with read_video(out / "media" / "tabletop.mp4") as video:
        differences = [np.abs(f.rgb.astype(int) - rgb).mean() for f, rgb in zip(video, frames, strict=True)]
    assert max(differences) < 4


def test_irregular_stamps_stay_irregular(convert: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stamps = (START_NS + np.cumsum(rng.integers(5_000_000, 90_000_000, 60))).tolist()
    path = Recording().camera(stamps).sound(3.0).write(tmp_path / "bag")
    out, _ = convert(path, "--labels", labels(tmp_path / "l.csv", "start_s,stop_s,action", "0,2,wave"))
    with read_video(out / "media" / "bag.mp4") as video:
        times = [frame.stamp_ns for frame in video]
    np.testing.assert_allclose(times, np.array(stamps) - stamps[0], atol=NS // 90_000)
    # The sound begins before the first picture and is cut there.
    pcm, _ = sound(out / "media" / "bag.wav")
    begin = round((stamps[0] - START_NS) * SOUND_RATE / NS)
    tone = Recording.tone(3.0)
    whole = len(tone) // 1600 * 1600
    np.testing.assert_allclose(pcm[:, 0], np.round(tone[begin:whole] * 32768), atol=1)


def damaged_at_first(path: Path) -> Path:
    """Two seconds of sound and pictures; the first three are none."""
    recording = Recording().sound(2.0)
    for index, stamp in enumerate(frame_stamps(2.0)):
        rgb = picture(index)

        def write(bag: Any, stamp: int = stamp, rgb: np.ndarray = rgb, bad: bool = index < 3) -> None:
            if bad:
                fields = {"format": "jpeg", "data": np.arange(50, dtype=np.uint8)}
                bag._write("/i/compressed", "sensor_msgs/msg/CompressedImage", stamp, stamp, "", **fields)
            else:
                bag.jpeg("/i/compressed", stamp, rgb, log_ns=stamp)

        recording.add(stamp, write)
    return recording.write(path)


def test_labels_count_from_the_first_stamp_also_where_its_picture_is_damaged(convert: Any, tmp_path: Path) -> None:
    path = damaged_at_first(tmp_path / "bag")
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "0.5,1.5,wave")
    out, printed = convert(path, "--labels", table, "--split-shares", 1, 0, 0)
    assert "3 left out, video: image is neither JPEG nor PNG" in printed
    (row,) = rows(out)
    assert float(row["start_s"]) == pytest.approx(0.4, abs=1e-6)
    pcm, _ = sound(out / "media" / "bag.wav")
    np.testing.assert_allclose(pcm[:500, 0], np.round(Recording.tone(2.0)[1600:2100] * 32768), atol=1)


def test_sound_that_was_not_recorded_is_no_modality_of_the_row(convert: Any, tmp_path: Path) -> None:
    recording = Recording().camera(frame_stamps(8.0)).sound(8.0, lost=lambda t: 3.0 <= t < 6.0)
    table = labels(tmp_path / "l.csv", "start_s,stop_s,verb,noun", "0,3,pour,cup", "3,6,stir,cup", "6,8,cut,bread")
    out, _ = convert(recording.write(tmp_path / "bag"), "--labels", table, "--split-shares", 1, 0, 0)
    assert [bool(row["audio"]) for row in rows(out)] == [True, False, True]
    pcm, _ = sound(out / "media" / "bag.wav")
    tone = np.round(Recording.tone(8.0) * 32768)
    assert not pcm[3 * SOUND_RATE : 6 * SOUND_RATE].any()
    np.testing.assert_allclose(pcm[6 * SOUND_RATE + 10 :, 0], tone[6 * SOUND_RATE + 10 : len(pcm)], atol=1)


def transforms(bag: Any, log_ns: int) -> None:
    """What a bag holds beside the sensors."""
    kind = "tf2_msgs/msg/TFMessage"
    bag.message("/tf", kind, bag.types.types[kind](transforms=[]), log_ns=log_ns)


def test_intervals_in_which_nothing_was_recorded_are_left_out_and_told(convert: Any, tmp_path: Path) -> None:
    recording = Recording().camera(frame_stamps(2.0))
    last_s = 59 / 30  # the sensors' last sample; the bag goes on

    recording.add(START_NS + 6 * NS, lambda bag: transforms(bag, START_NS + 6 * NS))
    lines = ["0,1,wave", "1,1.05,nod", "1.1,1.9,wave", f"1.9,{last_s},nod", f"{last_s!r},3,sit", "4,5,sit", "6,6.5,sit"]
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", *lines)
    report = tmp_path / "report.json"
    path = recording.write(tmp_path / "bag")
    out, printed = convert(path, "--labels", table, "--json", report, "--split-shares", 1, 0, 0)
    written = [(float(row["start_s"]), float(row["stop_s"])) for row in rows(out)]
    assert written == [(0, 1), (1, 1.05), (1.1, 1.9), (1.9, round(last_s, 6))], "a label may be short, a rest may not"
    assert "3 labelled intervals left out, nothing was recorded then: row 6 (1.97 to 3.00 s), row 7 (4.00" in printed
    assert "4 labelled intervals" in printed
    said = json.loads(report.read_text())
    assert said["rows"] == 4
    assert said["left_out"][1:] == [
        {"bag": "bag", "row": 7, "start_s": 4, "stop_s": 5},
        {"bag": "bag", "row": 8, "start_s": 6, "stop_s": 6.5},
    ]


def test_intervals_before_the_first_picture_are_left_out_and_told(convert: Any, tmp_path: Path) -> None:
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "0,0.05,nod", "0.05,0.15,nod", "0.15,1,wave")
    path, report = damaged_at_first(tmp_path / "bag"), tmp_path / "report.json"
    out, printed = convert(path, "--labels", table, "--split-shares", 1, 0, 0, "--json", report)
    (row,) = rows(out)
    assert (row["action"], float(row["start_s"])) == ("wave", pytest.approx(0.05, abs=1e-6))
    assert "row 2 (0.00 to 0.05 s), row 3 (0.05 to 0.15 s)" in printed
    said = json.loads(report.read_text())
    assert [lost["row"] for lost in said["left_out"]] == [2, 3]
    assert said["bags"]["bag"]["left_out"]["video: image is neither JPEG nor PNG"] == 3


def test_labels_of_nothing_that_was_recorded_make_no_data_set(karmma: Any, tmp_path: Path) -> None:
    path = Recording().camera(frame_stamps(2.0)).write(tmp_path / "bag")
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "2,2.5,wave")
    result = karmma("bag-to-manifest", path, "--labels", table, "--out", tmp_path / "out")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "no interval lies within what was recorded" in result.err
    assert not (tmp_path / "out").exists()


def test_frames_that_come_late_are_left_out_and_told(convert: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(2.0)
    stamps[30], stamps[31] = stamps[31], stamps[30]
    recording = Recording()
    for index, stamp in enumerate(stamps):
        log = START_NS + index * NS // 30
        recording.add(log, lambda bag, i=index, s=stamp, g=log: bag.image("/i", s, picture(i), log_ns=g))
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "0,2,wave")
    out, printed = convert(recording.write(tmp_path / "bag"), "--labels", table)
    with read_video(out / "media" / "bag.mp4") as video:
        assert len(list(video)) == 59
    assert "1 left out, video: stamp is not newer than the one before" in printed


def test_bags_go_to_one_split_each_by_the_seed(convert: Any, tmp_path: Path) -> None:
    paths = [Recording().camera(frame_stamps(1.0)).write(tmp_path / f"bag{n}") for n in range(5)]
    lines = [f"bag{n},0,1,verb{k},thing" for n in range(5) for k in (0,)]
    table = labels(tmp_path / "l.csv", "bag,start_s,stop_s,verb,noun", *lines)
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        out, _ = convert(*paths, "--labels", table, "--seed", seed, "--split-shares", 0.6, 0.2, 0.2)
        splits = {row["clip_id"][:4]: row["split"] for row in rows(out)}
        assert sorted(splits.values()) == ["test", "train", "train", "train", "val"]
        drawn.append(splits)
    assert drawn[0] == drawn[1]
    assert any(splits != drawn[0] for splits in drawn[2:])


def test_one_bag_is_split_by_time_and_intervals_are_cut(convert: Any, tmp_path: Path) -> None:
    path = Recording().camera(frame_stamps(10.1)).write(tmp_path / "bag")
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "0,4,wave", "6,10,sit")
    report = tmp_path / "report.json"
    out, _ = convert(path, "--labels", table, "--split-shares", 0.5, 0.25, 0.25, "--json", report)
    times = [(row["split"], float(row["start_s"]), float(row["stop_s"]), row["action"]) for row in rows(out)]
    assert times == [("train", 0, 4, "wave"), ("val", 6, 8, "sit"), ("test", 8, 10, "sit")]
    assert json.loads(report.read_text())["seconds"] == {"train": 4, "val": 2, "test": 2}


def test_time_that_was_not_recorded_is_split_among_nobody(convert: Any, tmp_path: Path) -> None:
    recording = Recording().camera(frame_stamps(4.0))
    recording.add(START_NS + 20 * NS, lambda bag: transforms(bag, START_NS + 20 * NS))
    table = labels(tmp_path / "l.csv", "start_s,stop_s,action", "0,2,wave", "2,9,sit", "9,20,wave")
    out, _ = convert(recording.write(tmp_path / "bag"), "--labels", table, "--split-shares", 0.5, 0.25, 0.25)
    seconds = dict.fromkeys(("train", "val", "test"), 0.0)
    for row in rows(out):
        seconds[row["split"]] += float(row["stop_s"]) - float(row["start_s"])
    assert seconds == pytest.approx({"train": 2, "val": 1, "test": 1}, abs=0.05)


def test_every_fault_of_the_labels_is_told_at_once(karmma: Any, tmp_path: Path) -> None:
    paths = [Recording().camera(frame_stamps(1.0)).write(tmp_path / name) for name in ("a", "b")]
    table = labels(tmp_path / "l.csv", "bag,start_s,stop_s,verb,noun", "a,0,x,pour,cup", "b,1,0,,cup", "a,0.5,1,cut,")
    result = karmma("bag-to-manifest", *paths, "--labels", table, "--out", tmp_path / "out")
    assert (result.status, result.err.count("\n")) == (2, 1)
    for fault in (
        "row 2, stop_s: 'x'",
        "row 3, stop_s: must be later",
        "row 3, verb: no label",
        "row 4, noun: no label",
    ):
        assert f"{table}" in result.err
        assert fault in result.err
    table = labels(tmp_path / "l.csv", "bag,start_s,stop_s,verb,noun", "a,0,9,pour,cup", "b,0,50,cut,cup")
    result = karmma("bag-to-manifest", *paths, "--labels", table, "--out", tmp_path / "out")
    assert result.status == 2
    assert "row 2, stop_s: 9.0 s is after the end of bag a, 1.0 s" in result.err
    assert "row 3, stop_s: 50.0 s is after the end of bag b, 1.0 s" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--split", "bag"), "one bag can be in one split only"),
        (("--split-shares", 0, 0, 0), "at least one must be above 0"),
        (("--image", "/nowhere"), "no such topic"),
    ],
)
def test_what_cannot_be_is_one_line(karmma: Any, tmp_path: Path, options: Any, line: str) -> None:
    result = karmma("bag-to-manifest", SMALL, "--labels", SMALL_INTERVALS, "--out", tmp_path / "out", *options)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert line in result.err
    assert not (tmp_path / "out").exists()


def test_an_old_result_is_not_overwritten(karmma: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    result = karmma("bag-to-manifest", SMALL, "--labels", SMALL_INTERVALS, "--out", tmp_path / "out")
    assert result.status == 2
    assert "not empty" in result.err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_two_bags_of_one_name_are_refused(karmma: Any, tmp_path: Path) -> None:
    paths = [everything(0.5).write(tmp_path / folder / "bag") for folder in ("x", "y")]
    table = labels(tmp_path / "l.csv", "bag,start_s,stop_s,action", "bag,0,0.5,wave")
    result = karmma("bag-to-manifest", *paths, "--labels", table, "--out", tmp_path / "out")
    assert result.status == 2
    assert "two bags are called bag" in result.err
