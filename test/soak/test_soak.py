# SPDX-License-Identifier: Apache-2.0
"""A minute of storm with the real node, and what the verdict is made of."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not here")

from karmma_msgs.msg import Audio
from karmma_ros.errors import SampleError
from karmma_ros.messages import compressed_to_rgb, stamp_to_ns
from karmma_ros.soak.sensors import DRIFT, LATE_NS, Scene, Sensor
from karmma_ros.soak.storm import AUDIO, FLOW, SENSORS, VIDEO, Episode, Storm, make_storm
from karmma_ros.soak.watch import SUBSCRIBERS, Usage, Watch, longest_gaps, verdict

START_NS = 10**18


@pytest.mark.patient
@pytest.mark.parametrize("transport", ["raw", pytest.param("compressed", marks=pytest.mark.full)])
def test_a_minute_of_storm_is_survived(tmp_path: Path, transport: str) -> None:
    command = [sys.executable, "-m", "karmma_ros.cli.main", "soak", "--minutes", "1", "--out", str(tmp_path)]
    command += ["--transport", transport]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    log = tmp_path / "node.log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text()[-2000:] if log.exists() else ''}"
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["failed"] == []
    assert result["killed"] >= 1
    # It was a storm: sensors were seen in the states that it is made to bring about.
    seen = {state for states in result["states"].values() for state in states}
    assert {"OK", "STALE", "CORRUPT"} <= seen
    assert seen & {"OCCLUDED", "FROZEN", "MUTED"}
    assert result["statuses"].get("FAILED", 0) == 0
    assert result["statuses"]["OK"] > 600


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_five_minutes_leaves_nothing_out(seed: int) -> None:
    storm = make_storm(300, seed)
    for name, kinds in (("video", VIDEO), ("flow", FLOW), ("audio", AUDIO)):
        assert {getattr(episode, name) for episode in storm.episodes} == {"well", *kinds}
    assert all(a.end_s == b.start_s for a, b in pairwise(storm.episodes))
    assert (storm.episodes[0].start_s, storm.episodes[-1].end_s) == (0, 300)
    killed = [episode.killed for episode in storm.episodes if episode.killed]
    assert len(killed) >= 5
    assert set(killed) == {SENSORS, *((name,) for name in SENSORS)}
    assert storm.episodes[0].video == storm.episodes[-1].video == "well"
    assert make_storm(300, seed) == storm != make_storm(300, seed + 1)


@pytest.mark.parametrize("kind", ["slow", "shuffled"])
def test_a_camera_that_gives_half_of_its_frames_may_be_followed_and_is_well_afterwards(kind: str) -> None:
    calm, half = Episode(0, 10), Episode(10, 14, video=kind)
    assert Storm((calm,), 0).due() == (300, 300)
    assert Storm((calm, half), 0).due() == (360, 420)
    for seed in range(20):
        for before, after in pairwise(make_storm(300, seed).episodes):
            if before.video == kind:
                assert (after.video, after.killed) == ("well", ())
                assert after.modalities in (None, SENSORS)


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {name: Scene(0, name) for name in SENSORS}


def sent(scenes: dict[str, Scene], name: str, kind: str, count: int = 40) -> list[list[Any]]:
    """What a sensor sends with each frame of an episode."""
    sensor = Sensor(name, scenes[name], Storm((Episode(0, 10, **{name: kind}),), 0), START_NS)
    return [sensor.tick(index) for index in range(count)]


def stamps(messages: list[list[Any]]) -> list[int]:
    return [stamp_to_ns(message.header.stamp) for together in messages for message in together]


def content(messages: list[list[Any]]) -> list[list[tuple[Any, ...]]]:
    """Everything in them, to be compared."""

    def of(message: Any) -> tuple[Any, ...]:
        stamp = stamp_to_ns(message.header.stamp)
        if isinstance(message, Audio):
            return stamp, message.sample_rate, message.channels, message.samples.tobytes()
        return stamp, message.height, message.width, message.step, message.encoding, message.data.tobytes()

    return [[of(message) for message in together] for together in messages]


@pytest.mark.parametrize(("name", "kinds"), [("video", VIDEO), ("flow", FLOW), ("audio", AUDIO)], ids=SENSORS)
def test_every_kind_of_misbehaviour_is_another(scenes: dict[str, Scene], name: str, kinds: tuple[str, ...]) -> None:
    said = {kind: content(sent(scenes, name, kind, 12)) for kind in ("well", *kinds)}
    assert all(said[a] != said[b] for a, b in combinations(said, 2))
    assert said["well"] == content(sent(scenes, name, "well", 12)), "and the same each time"


@pytest.mark.parametrize("name", SENSORS)
def test_late_stamps_lag_by_a_constant(scenes: dict[str, Scene], name: str) -> None:
    well, late = (stamps(sent(scenes, name, kind)) for kind in ("well", "late"))
    assert {b - a for a, b in zip(late, well, strict=True)} == {LATE_NS[name]}


@pytest.mark.parametrize("name", SENSORS)
def test_drifting_stamps_lag_more_and_more(scenes: dict[str, Scene], name: str) -> None:
    well, drifting = (stamps(sent(scenes, name, kind)) for kind in ("well", "drifting"))
    lag = [b - a for a, b in zip(drifting, well, strict=True)]
    assert lag == [round(i * DRIFT * 1e9 / 30) for i in range(len(lag))]


def test_a_camera_that_compresses_misbehaves_too(scenes: dict[str, Scene]) -> None:
    """What is huge or garbage never decodes to another size, and most of it not at all."""
    causes: dict[str, Counter[str]] = {}
    for kind in ("well", "black", "huge", "garbage"):
        storm = Storm((Episode(0, 10, video=kind),), 0)
        sensor = Sensor("video", scenes["video"], storm, START_NS, compressed=True)
        causes[kind] = Counter()
        for index in range(40):
            (message,) = sensor.tick(index)
            try:
                rgb = compressed_to_rgb(message, max_pixels=4_000_000)
                assert rgb.shape == (240, 320, 3)
                causes[kind]["black" if rgb.max() < 10 else "picture"] += 1
            except SampleError as error:
                causes[kind][error.cause] += 1
    assert causes["well"] == {"picture": 40}
    assert causes["black"] == {"black": 40}
    assert causes["huge"] == {"image is too large": 40}
    assert len(causes["garbage"]) > 1
    assert causes["garbage"]["image is truncated"] > 5


def test_a_slow_camera_sends_every_other_frame(scenes: dict[str, Scene]) -> None:
    well = stamps(sent(scenes, "video", "well"))
    assert stamps(sent(scenes, "video", "slow")) == well[::2]
    assert [len(together) for together in sent(scenes, "video", "flood")] == [10] * 40


def test_an_episode_is_named_by_what_is_wrong() -> None:
    assert Episode(0, 1).name == "all well"
    worst = Episode(0, 1, video="off", audio="muted", killed=("flow", "audio"), modalities=("video", "audio"))
    assert worst.name == "video off; audio muted; flow, audio killed; modalities set to video, audio"


def test_the_longest_gaps_come_first_and_the_ends_count() -> None:
    gaps = longest_gaps(10, [-1.0, 1.0, 2.0, 5.0, 9.5, 11.0], 3)
    assert gaps == [(5.0, 4.5), (2.0, 3.0), (0.0, 1.0)]
    assert longest_gaps(10, []) == [(0.0, 10)]


def calm(
    seconds: float, *, memory_mb: float = 0.0, threads: int = 0, files: int = 0, subscribers: int = SUBSCRIBERS
) -> Watch:
    """A process that grows by so much in its last quarter."""
    watch = Watch()
    watch.subscribers += [SUBSCRIBERS, subscribers, SUBSCRIBERS]
    for t_s in range(int(seconds)):
        last = t_s >= 0.75 * seconds
        watch.usages.append(Usage(t_s, 180 + memory_mb * last, 16 + threads * last, 26 + files * last))
    return watch


WELL = {"OK": 1200, "NO_INPUT": 600}
DUE = (1800, 1800)


def heard(seconds: float, rate: float = 30.0) -> list[float]:
    return [i / rate for i in range(round(seconds * rate))]


def test_a_run_in_which_all_is_well_does_not_fail() -> None:
    assert verdict(60, heard(60), DUE, calm(60), [], WELL)["failed"] == []
    assert verdict(60, heard(60), DUE, calm(60, memory_mb=4.9, threads=-1), [], WELL)["failed"] == []
    assert verdict(60, heard(60, 28.0), (1680, 1800), calm(60), [], WELL)["failed"] == []
    assert verdict(1200, heard(1200), (36_000, 36_000), calm(1200, memory_mb=0.9), [], {"OK": 30_000})["failed"] == []


@pytest.mark.parametrize(
    ("seconds", "watch", "arrivals", "faults", "words"),
    [
        (60, {"memory_mb": 5.1}, heard(60), [], "memory grew by 5.1 MB"),
        (1200, {"memory_mb": 1.1}, heard(1200), [], "memory grew by 1.1 MB"),
        (60, {"threads": 1}, heard(60), [], "threads went from 16 to 17"),
        (60, {"files": 2}, heard(60), [], "open files went from 26 to 28"),
        (60, {"subscribers": 2}, heard(60), [], "only 2 of 3 subscribers were there"),
        (60, {}, heard(60, 29.0), [], "only 1740 of 1800"),
        (60, {}, heard(60, 31.0), [], "1860 predictions where 1800 were due"),
        (60, {}, [t for t in heard(60) if not 10 < t < 11.1], [], "1.10 s without a prediction"),
        (60, {}, heard(60), ["Traceback"], "1 exceptions"),
    ],
)
def test_whatever_must_not_be_is_in_the_verdict(
    seconds: float, watch: dict[str, float], arrivals: list[float], faults: list[str], words: str
) -> None:
    statuses = {"OK": round(20 * seconds)}
    due = (round(30 * seconds),) * 2
    failed = verdict(seconds, arrivals, due, calm(seconds, **watch), faults, statuses)["failed"]  # type: ignore[arg-type]
    assert any(words in text for text in failed), failed


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ({"OK": 1790, "FAILED": 10}, "10 predictions failed"),
        ({"OK": 300, "NO_INPUT": 1500}, "only 300 predictions had something to go by"),
    ],
)
def test_predictions_that_say_nothing_are_no_success(statuses: dict[str, int], words: str) -> None:
    """A node whose inference fails goes on publishing, and so does one that hears no sensor."""
    assert any(words in text for text in verdict(60, heard(60), DUE, calm(60), [], statuses)["failed"])


def test_growth_per_hour_is_told_of_runs_of_hours_alone() -> None:
    """From the second quarter to the last is half of a run."""
    for seconds, expected in ((7199, None), (7200, 0.8), (14_400, 0.4)):
        arrivals = [n / 30 for n in range(30 * seconds)]
        due, statuses = (30 * seconds,) * 2, {"OK": 20 * seconds}
        resident = verdict(seconds, arrivals, due, calm(seconds, memory_mb=0.8), [], statuses)["resident_mb"]
        assert resident.get("growth_per_hour") == expected


def test_the_deaf_subscriber_dies_with_whoever_started_it() -> None:
    """It is stopped, so nothing less than SIGKILL reaches it."""
    stopped = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    script = f"""
import os, signal, sys
from karmma_ros.processes import Child
child = Child("stopped", ["-c", {stopped!r}], os.environ, death=signal.SIGKILL)
os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    watched = os.pidfd_open(pid)
    try:
        parent.kill()
        parent.wait()
        ready, _, _ = select.select([watched], [], [], 30)
        assert ready, "it outlives the soak"
    finally:
        os.close(watched)


@pytest.mark.parametrize("seed", range(5))
def test_a_storm_switches_off_one_sensor_at_a_time(seed: int) -> None:
    off = [e.modalities for e in make_storm(1200, seed).episodes if e.modalities not in (None, SENSORS)]
    assert off
    assert all(modalities is not None and len(modalities) == len(SENSORS) - 1 for modalities in off)


def test_a_machine_that_stood_still_is_told_of_beside_the_gap() -> None:
    watch = Watch()
    for t_s, late_s in ((1.0, 0.001), (2.0, 0.4), (9.0, 0.2)):
        watch.slept(t_s, late_s)
    assert watch.stood_still_s(0.9, 1.2) == 0.0, "a millisecond is nothing"
    assert watch.stood_still_s(1.9, 2.5) == watch.stood_still_s(2.1, 2.5) == 0.4
    assert watch.stood_still_s(2.5, 8.9) == 0.0
