# SPDX-License-Identifier: Apache-2.0
"""An object detector as a sensor of action_node: heard where vision_msgs is installed, missed by name where it is not.

On the bench its messages are plain objects with the fields of vision_msgs 4; over DDS they are real ones, of a package
built here with the definitions of vision_msgs 4.1.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from node.bench import STEP_NS, Bench, Recorded, now_ns, settings
from node.harness import PATIENCE_S, Process, Robot, node_and_robot, time_of
from rclpy.qos import QoSReliabilityPolicy
from toy_bundle import make_toy_bundle

from karmma_ros.errors import UsageError
from karmma_ros.health import SensorState
from karmma_ros.nodes.sensors import DetectionsSensor
from karmma_ros.nodes.worker import Outcome
from karmma_ros.recognizer import Recognizer

SENDER = Path(__file__).with_name("send_detections.py")
UNKNOWN_SIZE = "detections came before the size of the image is known"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with video and detections (hand, cup) that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("toy") / "toy", modalities=("video", "detections"))


@pytest.fixture
def bench(seeing: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(Recognizer(seeing, providers="cpu"), **getattr(request, "param", {}))
    yield made
    made.worker.stop()


def found(stamp_ns: int, *boxes: tuple[float, float, float, float], class_id: str = "cup") -> Any:
    """A Detection2DArray with boxes (centre, size) [pixels]."""
    detections = []
    for x, y, w, h in boxes:
        hypothesis = SimpleNamespace(class_id=class_id, score=0.75)
        center = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=0.0)
        bbox = SimpleNamespace(center=center, size_x=w, size_y=h)
        detections.append(SimpleNamespace(results=[SimpleNamespace(hypothesis=hypothesis)], bbox=bbox))
    header = SimpleNamespace(stamp=time_of(stamp_ns), frame_id="eye")
    return SimpleNamespace(header=header, detections=detections)


BOX = (8.0, 18.0, 16.0, 12.0)  # left half, lower half of the bench's 32x24


class Camera:
    """A camera and its detector, on a clock that stands still but for them: the timer waits however busy this machine
    is."""

    def __init__(self, bundle: Path) -> None:
        self.stamp_ns = now_ns()
        self.bench = Bench(Recognizer(bundle, providers="cpu"), clock=lambda: self.stamp_ns, stale_min_timeout=1.0)
        self._pushed = threading.Semaphore(0)
        push = self.bench.recognizer.push

        def count(modality: str, *sample: Any) -> int:
            slots = push(modality, *sample)
            if modality == "detections":
                self._pushed.release()
            return slots

        self.bench.recognizer.push = count  # type: ignore[method-assign]

    def frame(self, *, detected: bool = True) -> Outcome:
        """Sends the next frame and what is found in it, which is nothing in every third; the frame's prediction."""
        self.stamp_ns += STEP_NS
        outcome = self.bench.frame(self.stamp_ns)
        if detected:
            boxes = [BOX] if self.stamp_ns // STEP_NS % 3 else []
            self.bench.worker.receive("detections", found(self.stamp_ns, *boxes))
            assert self._pushed.acquire(timeout=PATIENCE_S)
        return outcome


@pytest.fixture
def camera(seeing: Path) -> Iterator[Camera]:
    made = Camera(seeing)
    yield made
    made.bench.worker.stop()


def test_detections_fill_the_window_and_go_stale_when_they_stop(camera: Camera) -> None:
    for _ in range(35):
        last = camera.frame()
    assert last.prediction.coverages["detections"] > 0.8
    assert last.statuses["detections"].state is SensorState.OK
    assert camera.bench.worker.statistics().statuses["detections"].received == 35
    end = time.monotonic() + PATIENCE_S
    while last.statuses["detections"].state is not SensorState.STALE:
        assert time.monotonic() < end, "STALE in vain"
        last = camera.frame(detected=False)
    assert last.statuses["video"].state is SensorState.OK
    assert camera.bench.warnings == []


def test_a_covered_lens_shows_no_objects(camera: Camera) -> None:
    """Its detector goes on and finds nothing; that is erased and, once the gate has made up its mind, not used."""
    recorded = Recorded(camera.bench.recognizer)
    black = np.zeros((24, 32, 3), np.uint8)
    for _ in range(20):
        camera.frame()
    begin_ns = camera.stamp_ns
    for _ in range(14):
        camera.stamp_ns += STEP_NS
        camera.bench.send_frame(camera.stamp_ns, black)
        last = camera.bench.wait("its prediction", lambda o: o.stamp_ns == camera.stamp_ns)
        camera.bench.worker.receive("detections", found(camera.stamp_ns))
    assert last.statuses["video"].state is SensorState.OCCLUDED
    assert last.statuses["detections"].state is SensorState.OK
    assert 15 <= round(30 * last.prediction.coverages["detections"]) <= 18  # of a window of 1 s, 14 frames were black
    used = [stamp_ns for stamp_ns, _ in recorded.of("detections") if stamp_ns > begin_ns]
    assert len(used) <= 9
    assert camera.bench.sensors["detections"].unusable >= 4  # type: ignore[attr-defined]


def test_a_covered_camera_that_is_switched_off_is_not_judged(camera: Camera) -> None:
    for _ in range(14):
        camera.stamp_ns += STEP_NS
        camera.bench.send_frame(camera.stamp_ns, np.zeros((24, 32, 3), np.uint8))
        camera.bench.wait("its prediction", lambda o: o.stamp_ns == camera.stamp_ns)
    camera.bench.worker.configure(settings(modalities=("detections",)))
    camera.stamp_ns += STEP_NS
    camera.bench.worker.receive("detections", found(camera.stamp_ns, BOX))
    assert camera._pushed.acquire(timeout=PATIENCE_S)


def test_what_was_found_is_pushed_with_its_images_stamp(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    stamp = now_ns()
    bench.frame(stamp)
    bench.worker.receive("detections", found(stamp, BOX))
    bench.wait_taken("detections", 1)
    ((at_ns, boxes),) = recorded.of("detections")
    assert at_ns == stamp
    np.testing.assert_allclose(boxes, [(0, 0.5, 0.5, 1, 0.75, 1)], atol=1e-6)


@pytest.mark.parametrize("bench", [{"detections_stamp_offset": -0.25}], indirect=True)
def test_a_stamp_offset_aligns_them(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    stamp = now_ns()
    bench.frame(stamp)
    bench.worker.receive("detections", found(stamp, BOX))
    bench.wait_taken("detections", 1)
    assert recorded.of("detections")[0][0] == stamp - 250_000_000


@pytest.mark.parametrize("bench", [{"image_rotate": 90}], indirect=True)
def test_the_size_is_that_of_the_image_as_sent_and_the_boxes_turn_with_it(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    bench.frame(now_ns() - STEP_NS)
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 1)
    np.testing.assert_allclose(recorded.of("detections")[0][1], [(0, 0, 0.5, 0.5, 0.75, 1)], atol=1e-6)
    bench.worker.configure(settings(image_rotate=180))
    bench.frame(now_ns())
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 2)
    np.testing.assert_allclose(recorded.of("detections")[1][1], [(0.5, 0, 1, 0.5, 0.75, 1)], atol=1e-6)


def test_before_any_frame_they_are_refused_with_the_cause(bench: Bench) -> None:
    for count in range(1, 4):
        bench.worker.receive("detections", found(now_ns(), BOX))
        bench.wait_taken("detections", count)
    status = bench.worker.statistics().statuses["detections"]
    assert (status.state, status.rejected, status.last_cause) == (SensorState.CORRUPT, 3, UNKNOWN_SIZE)
    bench.frame(now_ns())
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 4)
    assert bench.worker.statistics().statuses["detections"].received == 1


@pytest.mark.parametrize("bench", [{"detections_image_width": 64, "detections_image_height": 48}], indirect=True)
def test_a_size_that_is_set_goes_before_the_cameras(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 1)
    bench.frame(now_ns())
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 2)
    for _, boxes in recorded.of("detections"):
        np.testing.assert_allclose(boxes, [(0, 0.25, 0.25, 0.5, 0.75, 1)], atol=1e-6)


@pytest.mark.parametrize("bench", [{"detections_max_boxes": 2}], indirect=True)
def test_too_many_are_refused(bench: Bench) -> None:
    bench.frame(now_ns())
    bench.worker.receive("detections", found(now_ns(), BOX, BOX, BOX))
    bench.wait_taken("detections", 1)
    assert bench.worker.statistics().statuses["detections"].last_cause == "too many detections"


def test_half_a_size_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="set both, or both to 0"):
        DetectionsSensor(settings(detections_image_width=640), ("cup",))


def test_switched_off_what_is_held_goes_and_the_size_stays_known(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    bench.frame(now_ns())
    bench.worker.receive("detections", found(now_ns(), BOX))
    bench.wait_taken("detections", 1)
    bench.wait("it in the window", lambda o: o.prediction.coverages["detections"] > 0)
    bench.worker.configure(settings(modalities=("video",)))
    off = bench.wait("DISABLED", lambda o: o.statuses["detections"].state is SensorState.DISABLED)
    assert off.prediction.coverages["detections"] == 0
    bench.worker.receive("detections", found(now_ns(), BOX))
    assert not bench.sensors["detections"].waiting
    bench.worker.configure(settings(modalities=("detections",)))  # by now the camera is off
    bench.worker.receive("detections", found(now_ns(), BOX))
    alone = {"video": SensorState.DISABLED, "detections": SensorState.OK}
    bench.wait("detections alone", lambda o: {name: s.state for name, s in o.statuses.items()} == alone)
    assert bench.worker.statistics().statuses["detections"].rejected == 0
    assert len(recorded.of("detections")) == 2


def test_a_waiting_message_can_be_dropped() -> None:
    sensor = DetectionsSensor(settings(), ("cup",))
    sensor.store(SimpleNamespace(message=found(1, BOX), stamp_ns=1, now_s=0.0))  # type: ignore[arg-type]
    sensor.drop()
    assert not sensor.waiting


# --- over DDS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_vision_msgs(tmp_path: Path) -> dict[str, str]:
    """What to add to the environment to have none, wherever it is installed."""
    package = tmp_path / "hidden" / "vision_msgs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("not here")\n')
    return {"PYTHONPATH": str(package.parent)}


def play(r: Robot) -> None:
    r.play(1.0, flow=False, audio=False)


def test_the_node_hears_a_detector(
    tmp_path: Path, ros_env: dict[str, str], seeing: Path, vision_msgs: dict[str, str]
) -> None:
    environment = ros_env | vision_msgs
    with node_and_robot(tmp_path / "log", environment, bundle=seeing) as (process, r):
        r.wait_matched(r.images)
        (end,) = r.wait("the subscription", lambda: r.node.get_subscriptions_info_by_topic("/detections"))
        assert end.topic_type == "vision_msgs/msg/Detection2DArray"
        assert end.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
        play(r)  # the size of the image is known from here on
        driver = Process([sys.executable, str(SENDER)], environment, tmp_path / "driver")
        try:
            r.wait_prediction(
                "detections", lambda p: p.state("detections") == "OK" and p.modality("detections").coverage > 0.8
            )
            assert r.predictions[-1].modality("detections").rejected == 0
            r.set_parameter("modalities", ["video"])
            r.wait("silence", lambda: not r.node.get_subscriptions_info_by_topic("/detections"))
            r.wait_prediction("DISABLED", lambda p: p.state("detections") == "DISABLED")
            r.set_parameter("modalities", ["video", "detections"])
            r.wait_prediction("OK again", lambda p: p.state("detections") == "OK")
        finally:
            driver.end(signal.SIGKILL)
        r.wait_prediction("STALE", lambda p: p.state("detections") == "STALE")
        assert "vision_msgs is not installed" not in process.output
        assert "Traceback" not in process.output


def test_without_vision_msgs_the_node_runs_on_the_others_and_says_once_what_is_missing(
    tmp_path: Path, ros_env: dict[str, str], seeing: Path, no_vision_msgs: dict[str, str]
) -> None:
    before = ros_env.get("PYTHONPATH", "")
    environment = ros_env | {"PYTHONPATH": f"{no_vision_msgs['PYTHONPATH']}:{before}".rstrip(":")}
    with node_and_robot(tmp_path / "log", environment, bundle=seeing) as (process, r):
        r.wait_matched(r.images)
        play(r)
        said = r.wait_prediction("a prediction", lambda p: p.state("video") == "OK" or p.state("video") == "STALE")
        assert said.state("detections") == "WAITING"
        status = r.wait_status("the remedy", "action_node: detections", lambda s: "vision_msgs" in s.message)
        assert "apt install ros-jazzy-vision-msgs" in status.message
        r.set_parameter("modalities", ["video"])
        r.set_parameter("modalities", ["video", "detections"])
        r.wait_prediction("in use again", lambda p: p.state("detections") == "WAITING")
        assert process.output.count("vision_msgs is not installed") == 1
        assert "Traceback" not in process.output


def test_a_bundle_without_detections_is_no_matter_for_a_warning(
    tmp_path: Path, ros_env: dict[str, str], toy: Path
) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=toy) as (process, r):
        r.wait_matched()
        assert "detections" not in process.output
