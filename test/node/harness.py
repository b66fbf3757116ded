# SPDX-License-Identifier: Apache-2.0
"""Runs nodes as processes of their own, plays sensors to them over DDS at an exact pace, and collects what they say."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import ActionEvent, ActionPrediction, Audio, Labels, ModalityStatus
from karmma_ros import transport

T = TypeVar("T")
NODE = "karmma_ros.nodes.action_node"
RATE = 30
ENDED_S = 2.0  # [s] after SIGINT or SIGTERM a node has ended
PATIENCE_S = 30.0  # [s] before something awaited counts as not coming, on a machine that is busy with other things
STATES = {value: name for name, value in vars(ModalityStatus).items() if name.isupper() and isinstance(value, int)}


@dataclass(frozen=True)
class Received:
    """A prediction and when it was heard (steady time)."""

    message: ActionPrediction
    at_s: float

    @property
    def stamp_ns(self) -> int:
        return ns_of(self.message.header.stamp)

    @property
    def camera(self) -> bool:
        return self.message.trigger == ActionPrediction.CAMERA

    def state(self, modality: str) -> str:
        return STATES[self.modality(modality).state]

    def modality(self, name: str) -> ModalityStatus:
        return next(m for m in self.message.modalities if m.name == name)

    def scores(self) -> dict[str, float]:
        return {label.name: label.score for label in self.message.verbs}


def _subscribed(publisher: Any) -> bool:
    return publisher.get_subscription_count() > 0


def picture(level: int, index: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """What a camera could send, (height, width, 3) uint8 RGB: striped around a level, no two indices quite alike."""
    stripes = np.where(np.arange(width) * 32 // width % 2, 30, -30)
    rgb = np.repeat(np.clip(level + np.tile(stripes, (height, 1)), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    rgb[0, 0] = index % 256
    return rgb


def jpeg(rgb: np.ndarray) -> bytes:
    """A picture as a camera sends it compressed."""
    return cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()


def ns_of(stamp: Time) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def time_of(ns: int) -> Time:
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


class Process:
    """A node's process; its output is kept in a file and shown when something is awaited in vain."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as output:
            self.popen = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def end(self, sent: signal.Signals = signal.SIGINT, timeout_s: float = PATIENCE_S) -> int:
        """Sends a signal and waits for the end; returns the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(sent)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"did not end within {timeout_s} s of {sent.name}:\n{self.output}") from None

    def end_in_time(self, sent: signal.Signals) -> None:
        """Ends it by a signal: within ENDED_S, with status 0 and no exception.

        Where the machine stands still meanwhile the test fails, and is run again: see test/fixtures/stumbles.py.
        """
        begun_s = time.monotonic()
        status = self.end(sent)
        took_s = time.monotonic() - begun_s
        assert status == 0, f"ended with {status}:\n{self.output}"
        assert took_s < ENDED_S, f"ended {took_s:.2f} s after {sent.name}"
        assert "Traceback" not in self.output, self.output


def start(
    log: Path,
    environment: dict[str, str],
    *,
    module: str = NODE,
    path: Path | None = None,
    parameter_file: Path | None = None,
    namespace: str = "",
    **parameters: Any,
) -> Process:
    """Starts a node, or the script at `path`; parameter `image__rotate` is `image.rotate`."""
    target = ["-m", module] if path is None else [str(path)]
    command = [sys.executable, *target, "--ros-args"]
    if parameter_file is not None:
        command += ["--params-file", str(parameter_file)]
    if namespace:
        command += ["-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        command += ["-p", f"{name.replace('__', '.')}:={text}"]
    return Process(command, environment, log)


class Robot:
    """Sensors, ears and hands on the other side of DDS. Everything heard is kept; waiting is on events."""

    def __init__(
        self,
        *,
        compressed: bool = False,
        namespace: str = "",
        topics: Mapping[str, str] | None = None,
        managed: str = "action_node",
    ) -> None:
        """:param namespace: of the robot and its action node, such as "/robot1".
        :param managed: the node whose life cycle and parameters are in its hands.
        :param topics: other names for `image`, `flow` and `audio`.
        """
        names = {"image": "image", "flow": "flow", "audio": "audio", **(topics or {})}
        action_node = f"{namespace}/action_node"
        transport.prepare()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node("robot", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._heard = threading.Condition()
        self.predictions: list[Received] = []
        self.events: list[ActionEvent] = []
        self.labels: list[Labels] = []
        self.diagnostics: list[DiagnosticArray] = []
        self.watched: Process | None = None  # whose output to show on a timeout
        self.compressed = compressed
        sensor = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self.images = (
            self.node.create_publisher(CompressedImage, f"{names['image']}/compressed", sensor)
            if compressed
            else self.node.create_publisher(Image, names["image"], sensor)
        )
        self.flows = self.node.create_publisher(Image, names["flow"], sensor)
        self.sounds = self.node.create_publisher(Audio, names["audio"], QoSProfile(depth=50))
        self.clock = self.node.create_publisher(Clock, "/clock", 10)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(ActionPrediction, f"{action_node}/actions", self._prediction, 100)
        self.node.create_subscription(ActionEvent, f"{action_node}/events", self._event, 50)
        self.node.create_subscription(Labels, f"{action_node}/labels", self._label, latched)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostic, 10)
        self._change = self.node.create_client(ChangeState, f"{namespace}/{managed}/change_state")
        self._state = self.node.create_client(GetState, f"{namespace}/{managed}/get_state")
        self._get = self.node.create_client(GetParameters, f"{namespace}/{managed}/get_parameters")
        self._set = self.node.create_client(SetParameters, f"{namespace}/{managed}/set_parameters")
        self._spinning = threading.Thread(target=self._spin, daemon=True)
        self._spinning.start()

    def _spin(self) -> None:
        while self._context.ok():
            with suppress(ExternalShutdownException):
                self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._context.try_shutdown()
        self._spinning.join()
        self.node.destroy_node()

    def _prediction(self, message: ActionPrediction) -> None:
        self._keep(self.predictions, Received(message, time.monotonic()))

    def _event(self, message: ActionEvent) -> None:
        self._keep(self.events, message)

    def _label(self, message: Labels) -> None:
        self._keep(self.labels, message)

    def _diagnostic(self, message: DiagnosticArray) -> None:
        self._keep(self.diagnostics, message)

    def _keep(self, where: list[T], what: T) -> None:
        with self._heard:
            where.append(what)
            self._heard.notify_all()

    def listen(self, kind: type[T], topic: str) -> list[T]:
        """Subscribes; the list grows with every message, oldest first."""
        heard: list[T] = []
        self.node.create_subscription(kind, topic, partial(self._keep, heard), 100)
        return heard

    def forget(self) -> None:
        """Drops what was heard so far."""
        with self._heard:
            self.predictions, self.events, self.labels, self.diagnostics = [], [], [], []

    def wait(self, what: str, ready: Callable[[], T | None], timeout_s: float = PATIENCE_S) -> T:
        """Waits until `ready` gives something true, looking again whenever a message is heard."""
        end = time.monotonic() + timeout_s
        with self._heard:
            while True:
                result = ready()
                if result:
                    return result
                left = end - time.monotonic()
                if left <= 0:
                    output = self.watched.output if self.watched else ""
                    raise AssertionError(f"waited {timeout_s} s in vain for {what}\n{output}")
                # Discovery is no message: it has to be looked at now and then.
                self._heard.wait(min(left, 0.02))

    def pause(self, seconds: float) -> None:
        """Lets so much time pass between two messages, whatever is heard meanwhile."""
        end = time.monotonic() + seconds
        with self._heard:
            self._heard.wait_for(lambda: time.monotonic() >= end, seconds)

    # --- services ----------------------------------------------------------------------------------------------------

    def _call(self, client: Any, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        self.wait(client.srv_name, client.service_is_ready, timeout_s)
        future = client.call_async(request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(timeout_s), f"{client.srv_name} did not answer\n{self.watched.output if self.watched else ''}"
        return future.result()

    def change_state(self, transition: int) -> bool:
        return self._call(self._change, ChangeState.Request(transition=Transition(id=transition))).success

    def state(self) -> str:
        return self._call(self._state, GetState.Request()).current_state.label

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        """Sets a parameter; (accepted, reason)."""
        kinds = {bool: "bool", int: "integer", float: "double", str: "string", list: "string_array"}
        kind = kinds[type(value)]
        typed = ParameterValue(type=getattr(ParameterType, f"PARAMETER_{kind.upper()}"), **{f"{kind}_value": value})
        result = self._call(self._set, SetParameters.Request(parameters=[Parameter(name=name, value=typed)])).results[0]
        return result.successful, result.reason

    def parameters(self, *names: str) -> tuple[Any, ...]:
        """The values of parameters."""
        values = self._call(self._get, GetParameters.Request(names=names)).values
        return tuple(map(parameter_value_to_python, values))

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait_matched(self, *publishers: Any) -> None:
        """Waits until the node hears these publishers (all three sensors by default) and is heard."""
        for publisher in publishers or (self.images, self.flows, self.sounds):
            self.wait(f"a subscriber of {publisher.topic_name}", partial(_subscribed, publisher))
        self.wait("predictions", lambda: self.predictions)

    def wait_prediction(self, what: str, test: Callable[[Received], bool], timeout_s: float = PATIENCE_S) -> Received:
        """The first prediction from now on that passes."""
        start_at = len(self.predictions)
        return self.wait(what, lambda: next((p for p in self.predictions[start_at:] if test(p)), None), timeout_s)

    def wait_status(self, what: str, name: str, test: Callable[[DiagnosticStatus], bool]) -> DiagnosticStatus:
        """The first status of this name in /diagnostics from now on that passes."""
        start_at = len(self.diagnostics)
        return self.wait(
            what,
            lambda: next(
                (s for array in self.diagnostics[start_at:] for s in array.status if s.name == name and test(s)), None
            ),
        )

    # --- sensors -----------------------------------------------------------------------------------------------------

    def send_image(self, stamp_ns: int, rgb: np.ndarray, encoding: str = "rgb8") -> None:
        message: Any
        if self.compressed:
            message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", jpeg(rgb)))
        else:
            height, width = rgb.shape[:2]
            message = Image(height=height, width=width, encoding=encoding, step=3 * width)
            message.data = array.array("B", rgb.tobytes())
        message.header.stamp = time_of(stamp_ns)
        message.header.frame_id = "camera"
        self.images.publish(message)

    def as_received(self, rgb: np.ndarray) -> np.ndarray:
        """What is left of a picture that `send_image` sends: a JPEG is not quite what went into it."""
        if not self.compressed:
            return rgb
        bgr = cv2.imdecode(np.frombuffer(jpeg(rgb), np.uint8), cv2.IMREAD_COLOR)
        return np.ascontiguousarray(bgr[..., ::-1])

    def send_flow(self, stamp_ns: int, flow: np.ndarray) -> None:
        height, width = flow.shape[:2]
        message = Image(height=height, width=width, encoding="32FC2", step=8 * width)
        message.data = array.array("B", flow.astype(np.float32).tobytes())
        message.header.stamp = time_of(stamp_ns)
        self.flows.publish(message)

    def send_sound(self, stamp_ns: int, mono: np.ndarray, rate: int = 16_000) -> None:
        message = Audio(sample_rate=rate, channels=1, samples=array.array("f", mono.astype(np.float32).tobytes()))
        message.header.stamp = time_of(stamp_ns)
        self.sounds.publish(message)

    def play(
        self,
        duration_s: float,
        *,
        video: bool | Callable[[int], bool] = True,
        flow: bool = True,
        audio: bool = True,
        pictures: Callable[[int], np.ndarray] | None = None,
        level: float = 0.3,
        age_s: float = 0.0,
        rate: int = RATE,
        on_tick: Callable[[int], None] | None = None,
    ) -> Played:
        """Plays sensors in real time: frame, flow and the sound since the frame before, all stamped by one grid.

        :param video: whether, or which frames (by index), are sent.
        :param pictures: index -> RGB image.
        :param level: of the tone.
        :param age_s: how old the stamps are.
        :param rate: [Hz] of the grid.
        """
        pictures = pictures or (lambda index: picture(40 + 50 * (index % 4), index))
        count = round(duration_s * rate)
        begin_s, begin_ns = time.monotonic() + 0.005, time.time_ns() + 5_000_000 - round(age_s * 1e9)
        stamps: list[int] = []
        late_s = 0.0
        for index in range(count):
            pause = begin_s + index / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            late_s = max(late_s, time.monotonic() - begin_s - index / rate)
            stamp = begin_ns + index * 10**9 // rate
            if video is True or (callable(video) and video(index)):
                self.send_image(stamp, pictures(index))
                stamps.append(stamp)
            if flow:
                self.send_flow(stamp, np.full((12, 16, 2), 1 + 0.01 * (index % 7), np.float32))
            if audio:
                tone = np.sin(2 * np.pi * 440 * np.arange(16_000 // rate) / 16_000) * level
                self.send_sound(stamp - len(tone) * 10**9 // 16_000, tone)
            if on_tick is not None:
                on_tick(index)
        pause = begin_s + count / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        return Played(begin_s, begin_s + count / rate, begin_ns, stamps, late_s)

    def play_calmly(self, duration_s: float, **how: Any) -> Played:
        """Plays, and again (up to five times) when this machine stumbled: then it is no measure of the node's rate."""
        return calmly(lambda: [self.play(duration_s, **how)])[0]

    def heard(self, start_s: float, end_s: float) -> list[Received]:
        """Predictions heard in [start, end) of steady time."""
        with self._heard:
            return [p for p in self.predictions if start_s <= p.at_s < end_s]


@dataclass(frozen=True)
class Played:
    """What `play` sent, and when (steady time)."""

    start_s: float
    end_s: float
    start_ns: int
    frames: list[int]  # stamps of the frames sent
    late_s: float  # the worst delay of this process against its own plan


def calmly(play: Callable[[], list[Played]]) -> list[Played]:
    """What was played, once the machine let this process keep its times; after five attempts as it is."""
    for _ in range(5):
        played = play()
        if max(p.late_s for p in played) < 0.015:
            break
    return played


@contextmanager
def robot(**how: Any) -> Iterator[Robot]:
    """A robot for a test; see `Robot`."""
    made = Robot(**how)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def node_and_robot(
    log: Path,
    environment: dict[str, str],
    *,
    module: str = NODE,
    path: Path | None = None,
    parameter_file: Path | None = None,
    compressed: bool = False,
    namespace: str = "",
    **parameters: Any,
) -> Iterator[tuple[Process, Robot]]:
    """A running node and a robot around it. Afterwards the node is gone, and must have ended with exit status 0."""
    process = start(
        log, environment, module=module, path=path, parameter_file=parameter_file, namespace=namespace, **parameters
    )
    try:
        with robot(compressed=compressed, namespace=namespace) as made:
            made.watched = process
            yield process, made
        status = process.end()
        assert status == 0, f"ended with {status}:\n{process.output}"
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


def assert_increasing(predictions: Sequence[Received]) -> None:
    """All stamps strictly increase."""
    stamps = [p.stamp_ns for p in predictions]
    assert all(b > a for a, b in pairwise(stamps))


def value(status: DiagnosticStatus, key: str) -> str | None:
    """A value of a diagnostic status."""
    return next((pair.value for pair in status.values if pair.key == key), None)
