# SPDX-License-Identifier: Apache-2.0
"""The demo's parts, one by one: the script of failures, the sources, the renderer ahead, the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from broken_source import BrokenSource
from cli_helpers import make_video, noise
from rich.console import Console

from karmma_ros.demo.ahead import FlowSettings, FramesAhead
from karmma_ros.demo.script import sensor_script
from karmma_ros.demo.sources import SOUND_RATE, FileSource, SceneSource, open_file_source
from karmma_ros.demo.table import offline_accuracies, result_table
from karmma_ros.demo.view import open_view
from karmma_ros.errors import KarmmaError, MediaError, UsageError
from karmma_ros.flow import FlowProducer
from karmma_ros.processes import own_domain, unlink_shared_memory
from karmma_ros.records import PredictionRecord, Scored, SensorRecord, Truth, summarise

FLOW = FlowSettings((64, 48), "fast")


def test_phases_follow_each_other_and_fill_the_time() -> None:
    script = sensor_script(60.0, 0)
    assert len(script.phases) == 7
    assert script.phases[0].start_s == 0.0
    assert script.phases[-1].end_s == 60.0
    for before, after in zip(script.phases, script.phases[1:], strict=False):
        assert before.end_s == after.start_s
        assert script.at(before.end_s) is after
    assert script.at(61.0) is script.phases[-1]


def test_a_moment_that_is_nearly_a_frame_s_counts_in_the_frame_s_phase() -> None:
    script = sensor_script(7.0, 0, 25.0)
    for index in range(7 * 25):
        phases = {script.number_at(index / 25 + wobble_s) for wobble_s in (-0.008, 0.0, 0.008)}
        assert phases == {index // 25}


def test_what_reaches_the_node_in_each_phase() -> None:
    script = sensor_script(70.0, 0)
    seen = []
    for number in range(7):
        t_s = number * 10 + 5.0
        seen.append((script.delivers_frame(0, t_s), script.delivers_flow(0, t_s), script.delivers_audio(t_s)))
    del seen[5]
    # (frames, flow, sound)
    assert seen == [
        (True, True, True),
        (False, True, True),  # the flow is a sensor of its own
        (True, False, True),
        (True, True, False),
        (False, False, True),
        (True, True, True),
    ]


def test_half_of_the_frames_are_lost_with_their_flow_the_same_way_every_time() -> None:
    first, again, other = sensor_script(70.0, 1), sensor_script(70.0, 1), sensor_script(70.0, 2)
    draws = [[script.delivers_frame(i, 55.0) for i in range(600)] for script in (first, again, other)]
    assert draws[0] == draws[1] != draws[2]
    assert 240 < sum(draws[0]) < 360
    assert draws[0] == [first.delivers_flow(i, 55.0) for i in range(600)]


def test_a_file_repeats_with_stamps_that_go_on(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1.0, size=(320, 240), sound=noise(1.0))
    source = open_file_source(path, 2.5)
    assert (source.rate, source.size, source.span_s) == (25.0, (320, 240), 1.0)
    frames = list(source.frames())
    assert [frame.stamp_ns for frame in frames] == [i * 40_000_000 for i in range(63)]
    np.testing.assert_array_equal(frames[3].rgb, frames[28].rgb)
    sound = source.sound()
    assert sound is not None
    assert len(sound) == 2.5 * SOUND_RATE
    np.testing.assert_array_equal(sound[:16000], sound[16000:32000])
    assert sound.std() == pytest.approx(0.1 * (16000 / 44100) ** 0.5, rel=0.2)  # the noise below 8 kHz
    assert source.truth([]) is None


@pytest.mark.parametrize("first_s", [0.0, 0.5])
def test_sound_and_picture_of_a_file_start_together_in_every_repeat(tmp_path: Path, first_s: float) -> None:
    """The sound begins with the file, the picture `first_s` later; a noise begins 0.2 s after the first frame."""
    sound = noise(1.7)
    sound[: round((first_s + 0.2) * 44100)] = 0.0
    path = make_video(tmp_path / "a.mp4", stamps_s=[first_s + i / 25 for i in range(25)], sound=sound)
    source = open_file_source(path, 2.0)
    assert [frame.stamp_ns for frame in source.frames()] == [i * 40_000_000 for i in range(50)]
    heard = source.sound()
    assert heard is not None
    for once in np.split(np.abs(heard), 2):
        assert np.argmax(once > 0.02) / SOUND_RATE == pytest.approx(0.2, abs=0.03)


def test_large_files_are_shrunk_and_silent_ones_have_no_microphone(tmp_path: Path) -> None:
    source = open_file_source(make_video(tmp_path / "hd.mp4", seconds=0.2, size=(1920, 1080)), 0.2)
    assert source.size == (640, 360)
    assert next(source.frames()).rgb.shape == (360, 640, 3)
    assert source.sound() is None


def test_a_slide_show_cannot_be_played(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="frames per second"):
        open_file_source(make_video(tmp_path / "slow.mp4", stamps_s=[0.0, 10.0, 20.0]), 5.0)


def test_frames_rendered_ahead_are_the_source_s_with_its_flow() -> None:
    source = SceneSource(3, 1.0, size=(160, 120))
    producer = FlowProducer(FLOW.size, FLOW.preset)
    with FramesAhead(source, FLOW, ahead=5) as ahead:
        ahead.prefill(30.0)
        numbers = []
        for frame, expected in zip(ahead, source.frames(), strict=True):
            numbers.append(frame.number)
            assert frame.stamp_ns == expected.stamp_ns
            np.testing.assert_array_equal(frame.rgb, expected.rgb)
            flow = producer.push(expected.stamp_ns, expected.rgb)
            assert (flow is None) == (frame.flow is None) == (frame.number == 0)
            if flow is not None:
                np.testing.assert_array_equal(frame.flow, flow)
    assert numbers == list(range(30))


def test_a_renderer_is_gone_when_it_is_no_longer_wanted() -> None:
    with FramesAhead(SceneSource(3, 60.0, size=(160, 120)), None, ahead=3) as ahead:
        next(iter(ahead))
        process = ahead._process
        assert process.is_alive()
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()


@pytest.mark.parametrize(("dies", "reason"), [(False, "the tape is torn"), (True, "died")])
def test_a_source_that_fails_is_reported(dies: bool, reason: str) -> None:
    with FramesAhead(BrokenSource(dies), None, ahead=8) as ahead, pytest.raises(KarmmaError, match=reason):
        list(ahead)


def test_the_table_has_the_offline_accuracy_of_each_sensor_pattern(tmp_path: Path) -> None:
    accuracies = {"all": 0.91, "no_camera": 0.22, "no_flow": 0.81, "no_audio": 0.72, "half_frames": 0.88}
    patterns = {name: {"action": share} for name, share in accuracies.items()}
    (tmp_path / "evaluation.json").write_text(json.dumps({"patterns": patterns}))
    assert offline_accuracies(tmp_path) == accuracies
    assert offline_accuracies(tmp_path / "nothing") == {}

    script = sensor_script(7.0, 0)
    truth = Truth(lambda t_s: ("pour", "mug"), [], [("pour", "mug")])
    records = [record(i / 10) for i in range(70)]
    summary = summarise(records, script.phases, bundle="toy", rate_hz=10, sent=[10] * 7, truth=truth)
    console = Console(width=130, record=True, quiet=False, file=(tmp_path / "console").open("w"))
    console.print(result_table(summary, script, accuracies))
    lines = {line.split("│")[1].strip(): line for line in console.export_text().splitlines() if line.count("│") > 5}
    assert "91%" in lines["all sensors on"]
    assert "10/10" in lines["all sensors on"]
    assert "72%" in lines["microphone off"]
    assert "88%" in lines["half of the frames lost"]
    assert "100%" in lines["overall"]


def record(t_s: float) -> PredictionRecord:
    return PredictionRecord(
        round(t_s * 1e9),
        t_s,
        "OK",
        "CAMERA",
        "toy",
        actions=(Scored(0, "pour mug", 0.66),),
        latency_ms=4.0,
        sensors={"video": SensorRecord(coverage=1.0, rate_hz=30.0), "audio": SensorRecord("STALE")},
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_the_view_shows_truth_prediction_sensors_rate_and_latency(terminal: bool, tmp_path: Path) -> None:
    script = sensor_script(7.0, 0)
    truth = Truth(lambda t_s: ("shake", "box"), [], [])
    console = Console(width=120, force_terminal=terminal, file=(tmp_path / "screen").open("w"), _environ={})
    view = open_view(console, script, truth, wanted=True)
    view.update(0.0, [])
    view.update(2.5, [record(i / 10) for i in range(25)])
    view.close()
    console.file.flush()
    shown = (tmp_path / "screen").read_text()
    for part in ("shake box", "pour mug", "66%", "flow off", "video", "audio", "stale", "p99 4.0 ms"):
        assert part in shown, part


def test_no_view_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    view = open_view(Console(), sensor_script(7.0, 0), None, wanted=False)
    view.update(1.0, [record(0.5)])
    view.close()
    assert capsys.readouterr().out == ""


def test_a_file_source_travels_to_another_process(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=0.4, size=(64, 48))
    source: FileSource = open_file_source(path, 0.8)
    with FramesAhead(source, FLOW, ahead=4) as ahead:
        assert [frame.stamp_ns for frame in ahead] == [i * 40_000_000 for i in range(20)]


def test_every_demo_has_a_domain_of_its_own() -> None:
    pytest.importorskip("domain_coordinator")
    with own_domain() as one, own_domain() as other:
        assert one != other
    for _ in range(101):  # as many as there are: one that was not given back would be missing
        with own_domain():
            pass


def test_an_error_of_the_system_inside_a_domain_stays_what_it_is() -> None:
    """domain_coordinator takes an OSError for a domain in use and goes on to the next."""
    with pytest.raises(OSError, match="No space left"), own_domain():
        raise OSError(28, "No space left on device")


def test_shared_memory_that_another_process_has_mapped_is_left_alone(tmp_path: Path) -> None:
    abandoned, used = (Path(f"/dev/shm/fastrtps_port{7398 + i}_of_test_{os.getpid()}") for i in range(2))
    hold = "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); print('held'); input()"
    for path in (abandoned, used):
        path.write_bytes(bytes(4096))
        path.with_name(f"{path.name}_el").touch()
    holder = subprocess.Popen(
        [sys.executable, "-uc", hold, str(used)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        unlink_shared_memory({abandoned, used})
        assert (abandoned.exists(), used.exists()) == (False, True)
        assert used.with_name(f"{used.name}_el").exists()
        holder.communicate("\n", timeout=30)
        unlink_shared_memory({used})
        assert not used.exists()
    finally:
        holder.kill()
        holder.wait()
        for path in (abandoned, used):
            for name in (path.name, f"{path.name}_el"):
                path.with_name(name).unlink(missing_ok=True)


def test_a_recording_too_short_for_its_phases_is_refused() -> None:
    """Before it is played: a phase without a frame has no rate."""
    with pytest.raises(UsageError, match=r"5 s at 1 frames a second are too few for 7 phases: --seconds 14"):
        sensor_script(5.0, 0, 1.0)
    assert len(sensor_script(14.0, 0, 1.0).phases) == 7


HOSTILE = [
    "[" * 100_000,
    "[]",
    *(f'{{"patterns": {{"all": {{"action": {value}}}}}}}' for value in ("NaN", "1e999", "9" * 400)),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_bundles_evaluation_is_not_trusted(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    assert offline_accuracies(tmp_path) == {}


def test_a_bundles_evaluation_is_a_file_of_its_own(tmp_path: Path) -> None:
    outside, bundle = tmp_path / "outside.json", tmp_path / "bundle"
    outside.write_text('{"patterns": {"all": {"action": 0.5}}}')
    bundle.mkdir()
    (bundle / "evaluation.json").symlink_to(outside)
    assert offline_accuracies(bundle) == {}
    (bundle / "evaluation.json").unlink()
    os.mkfifo(bundle / "evaluation.json")  # which would be waited for, for ever
    assert offline_accuracies(bundle) == {}
