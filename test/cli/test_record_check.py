# SPDX-License-Identifier: Apache-2.0
"""`karmma record-check`: each fault of a recording is found, named with its remedy, and decides the exit status."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_helpers import NS, SMALL, SOUND_RATE, START_NS, Recording, everything, frame_stamps, picture


@pytest.fixture
def check(karmma: Any, tmp_path: Path) -> Any:
    """Runs the command; (exit status, what it printed, its JSON)."""

    def run(path: Path, *options: object) -> tuple[int, str, dict[str, Any]]:
        result = karmma("record-check", path, "--json", tmp_path / "report.json", *options)
        assert result.err == ""
        return result.status, result.out, json.loads((tmp_path / "report.json").read_text())

    return run


def found(report: dict[str, Any], severity: str) -> list[str]:
    return [finding["text"] for finding in report["findings"] if finding["severity"] == severity]


def test_the_shipped_bag_is_small() -> None:
    assert sum(path.stat().st_size for path in SMALL.iterdir()) < 3_000_000


def test_the_shipped_bag_is_fit(check: Any) -> None:
    status, out, report = check(SMALL)
    assert status == 0
    assert report["fit"]
    assert found(report, "error") == found(report, "warning") == []
    assert "fit for replay" in out
    used = {topic["modality"]: topic for topic in report["used"]}
    assert used["video"]["details"] == "240x180 JPEG"
    assert used["flow"]["details"] == "32x24 32FC2"
    assert used["audio"]["details"] == "16000 Hz, 1 channel"
    assert used["video"]["rate_hz"] == pytest.approx(30, abs=0.1)
    assert used["video"]["lag_s"] == pytest.approx(0.008, abs=1e-6)
    assert used["audio"]["lag_s"] == pytest.approx(0.005, abs=1e-4)  # from its last sample
    assert report["topics"]["/flow"] == {"type": "sensor_msgs/msg/Image", "messages": 194, "used_as": "flow"}


def test_stamps_of_zero_are_an_error(check: Any, tmp_path: Path) -> None:
    recording = Recording().sound(3.0)
    for index in range(90):
        log = START_NS + index * NS // 30
        recording.add(log, lambda bag, i=index, g=log: bag.image("/image", 0, picture(i), log_ns=g))
    status, out, report = check(recording.write(tmp_path / "bag"))
    assert status == 1
    assert "90 of 90 stamps are 0" in found(report, "error")
    assert "set header.stamp" in out
    assert "not fit for replay" in out


def test_stamps_of_another_clock_are_told(check: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)
    status, _, report = check(Recording().camera(stamps, lag_s=-5.0).sound(3.0).write(tmp_path / "future"))
    assert status == 1
    assert found(report, "error") == ["stamps are 5.00 s ahead of log time"]
    old = Recording().camera(stamps, lag_s=86_400.0).sound(3.0, lag_s=86_400.0)
    status, _, report = check(old.write(tmp_path / "old"))
    assert status == 0
    assert "stamps are 86400 s older than log time" in found(report, "note")
    late = Recording().camera(stamps).sound(3.0, lag_s=0.9)
    status, out, report = check(late.write(tmp_path / "late"))
    assert status == 0
    assert any(text.startswith("stamps of audio lie 0.89 s before the camera's") for text in found(report, "warning"))
    assert "--stamp-offset audio=0.89" in out


def test_stamps_that_go_back_or_repeat_are_told(check: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)
    logs = list(stamps)
    stamps[40], stamps[41], stamps[60] = stamps[41], stamps[40], stamps[59]
    recording = Recording().sound(3.0)
    for index, (stamp, log) in enumerate(zip(stamps, logs, strict=True)):
        recording.add(log, lambda bag, i=index, s=stamp, g=log: bag.image("/image", s, picture(i), log_ns=g))
    _, _, report = check(recording.write(tmp_path / "bag"))
    texts = found(report, "warning")
    assert "1 stamps go back, by up to 0.033 s" in texts
    assert "1 stamps are the same as the one before" in texts


def test_gaps_are_told_with_the_longest(check: Any, tmp_path: Path) -> None:
    lost = [s for s in frame_stamps(4.0) if not (1.0 <= (s - START_NS) / NS < 1.5 or 3.0 <= (s - START_NS) / NS < 3.8)]
    status, _, report = check(Recording().camera(lost).sound(4.0).write(tmp_path / "bag"))
    assert status == 0
    assert "2 gaps, the longest 0.83 s at 3.0 s" in found(report, "warning")
    (camera,) = [topic for topic in report["used"] if topic["modality"] == "video"]
    assert (camera["gaps"], camera["longest_gap_s"]) == (2, pytest.approx(5 / 6, abs=1e-3))


def test_sound_that_a_node_could_not_use_is_told(check: Any, tmp_path: Path) -> None:
    silent = everything(3.0)
    silent.events = [e for e in silent.events if e[0] < 0]
    silent.camera(frame_stamps(3.0)).sound(3.0, level=0.0, chunk=SOUND_RATE // 2)
    texts = found(check(silent.write(tmp_path / "silent"))[2], "warning")
    assert "nothing but silence" in texts
    assert "chunks of 0.50 s" in texts
    jittery = Recording().camera(frame_stamps(3.0))
    for index in range(29):
        stamp = START_NS + index * NS // 10 + (30_000_000 if index % 2 else 0)
        samples = Recording.tone(0.1)
        log = stamp + NS // 10
        jittery.add(log, lambda bag, s=stamp, x=samples, g=log: bag.audio("/audio", s, x, SOUND_RATE, log_ns=g))
    texts = found(check(jittery.write(tmp_path / "jittery"))[2], "warning")
    assert "28 of 28 chunks do not follow the one before within 20 ms" in texts


def test_what_is_missing_is_told(check: Any, tmp_path: Path) -> None:
    status, _, report = check(Recording().sound(3.0).write(tmp_path / "sound"))
    assert status == 0
    assert "no camera" in found(report, "warning")
    status, _, report = check(Recording().camera(frame_stamps(1.0)[::10]).write(tmp_path / "camera"))
    assert status == 0
    texts = found(report, "warning")
    assert "no sound" in texts
    assert "only 3.0 frames per second" in texts
    assert "only 0.7 s long" in texts
    assert "no flow" in found(report, "note")
    status, _, report = check(SMALL, "--image", "none", "--flow", "none", "--audio", "none")
    assert status == 1
    assert found(report, "error") == ["no camera, no flow and no sound"]


def test_several_cameras_are_an_error_until_one_is_chosen(check: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)
    path = Recording().camera(stamps, topic="/a").camera(stamps, topic="/b").sound(3.0).write(tmp_path / "bag")
    status, out, report = check(path)
    assert status == 1
    assert found(report, "error") == ["2 topics could be the video: /a, /b"]
    assert "choose one with --image" in out
    assert check(path, "--image", "/b")[0] == 0


def test_pictures_that_cannot_be_decoded_are_an_error(check: Any, tmp_path: Path) -> None:
    stamps = frame_stamps(3.0)
    recording = Recording().sound(3.0)
    for stamp in stamps:

        def broken(bag: Any, stamp: int = stamp) -> None:
            fields = {"format": "jpeg", "data": np.arange(50, dtype=np.uint8)}
            bag._write("/image/compressed", "sensor_msgs/msg/CompressedImage", stamp, stamp, "camera", **fields)

        recording.add(stamp, broken)
    status, _, report = check(recording.write(tmp_path / "bag"))
    assert status == 1
    assert any("image is neither JPEG nor PNG" in text for text in found(report, "error"))


def test_definitions_that_are_missing_are_a_note_where_they_are_known(check: Any, tmp_path: Path) -> None:
    """As Humble's sqlite3 bags are."""
    path = everything(3.0).write(tmp_path / "bag", storage="sqlite3")
    with sqlite3.connect(path / "bag.db3") as database:
        database.execute("DELETE FROM message_definitions")
    status, _, report = check(path)
    assert status == 0
    assert "no definition of karmma_msgs/msg/Audio in the bag" in found(report, "note")


def test_a_few_damaged_messages_are_a_warning(check: Any, tmp_path: Path) -> None:
    path = everything(3.0).write(tmp_path / "bag", storage="sqlite3")
    with sqlite3.connect(path / "bag.db3") as database:
        (camera,) = database.execute("SELECT id FROM topics WHERE name = '/camera/image_raw'").fetchone()
        (frames,) = database.execute("SELECT count(*) FROM messages WHERE topic_id = ?", (camera,)).fetchone()
        database.execute("UPDATE messages SET data = x'00010000' WHERE topic_id = ? AND id % 7 = 0", (camera,))
        damaged = database.execute("SELECT changes()").fetchone()[0]
    status, _, report = check(path)
    assert 0.1 * frames < damaged < 0.4 * frames
    assert status == 0
    assert any(f"{damaged} of {frames} messages looked at" in text for text in found(report, "warning"))


def test_a_bag_that_was_cut_off_is_not_fit(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    path.write_bytes((SMALL / "tabletop.mcap").read_bytes()[:1_000_000])
    status, out, report = check(path)
    assert status == 1
    assert "cannot be read" in found(report, "error")[0]
    assert "mcap recover" in out
    whole = tmp_path / "damaged.mcap"
    data = bytearray((SMALL / "tabletop.mcap").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    whole.write_bytes(data)
    assert check(whole)[0] == 1


def test_a_bag_that_is_not_there_is_a_mistake_of_the_user(karmma: Any, tmp_path: Path) -> None:
    result = karmma("record-check", tmp_path / "nowhere")
    assert (result.status, result.err.count("\n")) == (2, 1)


def test_our_definition_of_audio_is_the_message_packages() -> None:
    from karmma_ros.bags.reader import AUDIO_DEFINITION

    source = Path(__file__).resolve().parents[2] / "karmma_msgs" / "msg" / "Audio.msg"
    fields = [line.partition("#")[0].split() for line in source.read_text().splitlines()]
    assert [line for line in fields if line] == [line.split() for line in AUDIO_DEFINITION.strip().splitlines()]
