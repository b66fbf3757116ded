# SPDX-License-Identifier: Apache-2.0
"""From an image stamped in one process to the prediction heard in a third, by way of the node; and what the node uses.

Beside it the bare core on the same frames, from the frame to its answer. What the node adds, the difference of the two
percentiles, is ROS and the wait for flow and sound that came just before the frame and are being encoded. A node that
looks at nothing and answers at once shows what of it is rclpy, DDS and the two processes at its ends; what is left
beyond that and the core is the node's own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.progress import Progress

from karmma_benchmarks.feed import Feed
from karmma_benchmarks.settings import Report, Settings, Table
from karmma_ros.decode import compressed_to_rgb
from karmma_ros.errors import KarmmaError
from karmma_ros.offline import OfflineSensors
from karmma_ros.processes import (
    Child,
    node_arguments,
    own_domain,
    ros_environment,
    shared_memory_of,
    unlink_shared_memory,
)
from karmma_ros.recognizer import LIVE_AUDIO_LIMIT, Recognizer
from karmma_ros.records import percentiles
from karmma_ros.soak.watch import usage_of

__all__ = ["NODE", "STAGES", "USUAL", "core_s", "jpeg_of", "judge", "measure", "node_parameters", "run"]

NODE = "action_node"
QUALITY = 85  # of a JPEG
STAGES = (
    "handed to ROS by the sensors' process",
    "to the node, and waiting there",
    "decoded, encoded, fused",
    "to the listener, and into Python there",
)
_PATIENCE_S = 60.0  # until a process has something to say
_CAMERA = 0  # ActionPrediction.CAMERA
_TICKS = os.sysconf("SC_CLK_TCK")


class Camera(NamedTuple):
    """What the camera sends."""

    width: int
    height: int
    fps: int
    encoding: str  # rgb8 or jpeg

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.encoding} at {self.fps} Hz"


CAMERAS = [
    Camera(*size, fps, encoding)
    for fps, size, encoding in product((30, 60), ((640, 480), (1280, 720)), ("rgb8", "jpeg"))
]
USUAL = CAMERAS[0]


def run(settings: Settings) -> Report:
    """Measures; the usual camera for five minutes, the others for one."""
    if "video" not in settings.bundle.modalities:
        return Report({"cameras": []}, [], {"dds": "needs a bundle that takes video"})
    cameras = [USUAL] if settings.quick else CAMERAS
    rows, echo = [], {}
    with Progress(console=settings.console, transient=True) as progress:
        for camera in progress.track(cameras, description="cameras"):
            seconds = 5.0 if settings.quick else 300.0 if camera == USUAL else 60.0
            core = core_s(settings, camera, 3.0 if settings.quick else 20.0)
            node = node_arguments(NODE, node_parameters(settings, camera))
            rows.append({"camera": str(camera), "seconds": seconds} | measure(settings, camera, seconds, core, node))
            if camera == USUAL:
                echo = measure(settings, camera, min(seconds, 60.0), core, _echo_arguments(camera))
    data = {"cameras": rows, "echo": echo}
    return Report(data, [_latencies(rows), _stages(rows[0], echo), _usage(rows)])


def _echo_arguments(camera: Camera) -> list[str]:
    kind, topic = ("CompressedImage", "image/compressed") if camera.encoding == "jpeg" else ("Image", "image")
    return ["-m", "karmma_benchmarks.dds_echo", kind, topic, f"/{NODE}/actions"]


def measure(
    settings: Settings, camera: Camera, seconds: float, core: list[float], arguments: list[str]
) -> dict[str, Any]:
    """What is heard of a node that watches one camera, and what it uses.

    :param core: [s] that the bare core takes for its frames.
    :param arguments: of the node's process.
    """
    with ExitStack() as stack:
        stack.enter_context(ros_environment(stack.enter_context(own_domain())))
        segments: set[Path] = set()
        stack.callback(unlink_shared_memory, segments)
        environment = {**os.environ}
        listener = stack.enter_context(
            Child(
                "the listener",
                ["-m", "karmma_benchmarks.dds_listener", f"/{NODE}/actions"],
                environment,
                talks=True,
            )
        )
        _wait_line("ready", listener)
        sensors = stack.enter_context(
            Child(
                "the sensors",
                ["-m", "karmma_benchmarks.dds_camera", *map(str, camera), f"{seconds:g}", str(settings.bundle.folder)],
                environment,
                talks=True,
            )
        )
        _wait_line("waiting", sensors)  # the node's start is measured, not theirs
        begun = time.monotonic()
        node = stack.enter_context(Child("the node", arguments, environment))
        _wait_line("heard", listener, node, sensors)
        first_s = time.monotonic() - begun
        used, wall = _cpu_s(node.pid), time.monotonic()
        sent = json.loads(_line(sensors, node, listener, patience_s=seconds + _PATIENCE_S))
        cpu_share = (_cpu_s(node.pid) - used) / (time.monotonic() - wall)
        resident_mb = usage_of(node.pid, 0.0).resident_mb
        segments |= shared_memory_of([node.pid, listener.pid, sensors.pid])
        time.sleep(0.5)  # the last prediction is on its way
        listener.say(b"\n")
        heard = json.loads(_line(listener))
        sensors.say(b"\n")
    return judge(sent, heard, core) | {
        "node_cpu_share": round(cpu_share, 3),
        "node_resident_mb": round(resident_mb, 1),
        "start_to_prediction_s": round(first_s, 2),
    }


def judge(sent: dict[str, Any], heard: list[list[float]], core: list[float]) -> dict[str, Any]:
    """Latencies of the frames sent since the first prediction."""
    answers = {int(stamp): rest for stamp, *rest in heard if rest[1] == _CAMERA}
    heard_ns = {stamp: at for stamp, (at, *_) in answers.items()}
    first = min((stamp for stamp in sent["stamps"] if stamp in heard_ns), default=None)
    if first is None:
        raise KarmmaError("no frame was answered: is the machine overloaded?")
    due = [stamp for stamp in sent["stamps"] if stamp >= first]
    answered = [stamp for stamp in due if stamp in heard_ns]
    latency: dict[str, Any] = percentiles([(heard_ns[stamp] - stamp) / 1e6 for stamp in answered])
    bare: dict[str, Any] = percentiles([1e3 * spent for spent in core])
    return {
        "frames": len(due),
        "lost": len(due) - len(answered),
        "latency_ms": latency,
        "core_ms": bare,
        "stages_ms": _split(dict(zip(sent["stamps"], sent["took_s"], strict=True)), answers, answered),
        "overhead_p50_ms": round(latency["p50"] - bare["p50"], 3),
        "overhead_p95_ms": round(latency["p95"] - bare["p95"], 3),
        "sensors_late_ms": round(1e3 * sent["late_s"], 1),
    }


def _split(took_s: dict[int, float], answers: dict[int, list[float]], answered: list[int]) -> dict[str, Any]:
    """Where the time of each frame went."""
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for stamp in answered:
        at_ns, _, computed_s, made_s = answers[stamp]
        given_s, heard_s = took_s[stamp], (at_ns - stamp) * 1e-9
        # On few cores the node may be at work before the sensors' process is back from handing the image over.
        spent_s = (given_s, max(0.0, made_s - computed_s - given_s), computed_s, heard_s - made_s)
        for stage, spent in zip(STAGES, spent_s, strict=True):
            stages[stage].append(1e3 * spent)
    return {stage: percentiles(spent) for stage, spent in stages.items()}


def core_s(settings: Settings, camera: Camera, seconds: float) -> list[float]:
    """[s] that the core takes from an image as it lies in a message to the prediction, at the camera's pace."""
    feed = Feed(settings.bundle, seconds=1.0, size=(camera.width, camera.height))
    sensors = OfflineSensors(
        Recognizer(settings.bundle, providers=settings.providers, threads=settings.threads),
        audio_limit=LIVE_AUDIO_LIMIT,
    )
    coded = [jpeg_of(frame) for frame in feed.frames] if camera.encoding == "jpeg" else []
    spent = []
    for index, moment in enumerate(_paced(feed, camera.fps, seconds)):
        if "audio" in settings.bundle.modalities:
            sensors.push("audio", moment.begin_ns, moment.sound, feed.rate)
        if "flow" in settings.bundle.modalities:
            sensors.push("flow", moment.stamp_ns, moment.flow)
        begun = time.perf_counter()
        rgb = moment.rgb
        if coded:
            rgb = compressed_to_rgb(coded[index % len(coded)])
        sensors.push("video", moment.stamp_ns, rgb)
        sensors.recognizer.predict(moment.stamp_ns)
        spent.append(time.perf_counter() - begun)
    return spent[len(spent) // 10 :]


def jpeg_of(rgb: np.ndarray) -> Any:
    """The fields of a CompressedImage."""
    data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return SimpleNamespace(format="rgb8; jpeg compressed bgr8", data=data.tobytes())


def _paced(feed: Feed, fps: int, seconds: float) -> Iterator[Any]:
    """Moments of the feed at the camera's rate: a processor that rests between frames runs slower than one that does
    not."""
    begun = time.monotonic()
    for index in range(round(seconds * fps)):
        time.sleep(max(0.0, begun + index / fps - time.monotonic()))
        yield feed.at(index)


def node_parameters(settings: Settings, camera: Camera) -> dict[str, object]:
    """The node's parameters for a camera."""
    return {
        "bundle": settings.bundle.folder,
        "threads": settings.threads,
        "providers": settings.providers,
        "image.transport": "compressed" if camera.encoding == "jpeg" else "raw",
    }


def _line(child: Child, *others: Child, patience_s: float = _PATIENCE_S) -> str:
    """The next line that a child says.

    :param others: that have to live on meanwhile.
    :raises KarmmaError: if it says nothing, or one of them ends.
    """
    until = time.monotonic() + patience_s
    while (line := child.read_line(0.2)) is None:
        for each in (child, *others):
            each.check()
        if time.monotonic() > until:
            raise KarmmaError(f"{child.name} said nothing for {patience_s:.0f} s: is the machine overloaded?")
    return line


def _wait_line(expected: str, child: Child, *others: Child) -> None:
    while _line(child, *others).strip() != expected:
        pass


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _latencies(rows: list[dict[str, Any]]) -> Table:
    headings = ["camera", "p50", "p95", "p99", "max", "lost / frames", "bare core p50 / p95", "node adds, p50 / p95"]
    cells = [
        [
            row["camera"],
            *(f"{row['latency_ms'][key]:.1f}" for key in ("p50", "p95", "p99", "max")),
            f"{row['lost']} / {row['frames']}",
            f"{row['core_ms']['p50']:.1f} / {row['core_ms']['p95']:.1f}",
            f"{row['overhead_p50_ms']:.1f} / {row['overhead_p95_ms']:.1f}",
        ]
        for row in rows
    ]
    return Table("image stamped to prediction heard [ms]", headings, cells)


def _stages(row: dict[str, Any], echo: dict[str, Any]) -> Table:
    cells = [
        [stage, *(f"{of['stages_ms'][stage]['p50']:.1f} / {of['stages_ms'][stage]['p95']:.1f}" for of in (row, echo))]
        for stage in STAGES
    ]
    whole = [f"{of['latency_ms']['p50']:.1f} / {of['latency_ms']['p95']:.1f}" for of in (row, echo)]
    beyond = [row[f"overhead_{key}_ms"] - echo["latency_ms"][key] for key in ("p50", "p95")]
    return Table(
        f"where a frame's time goes, {row['camera']} [ms], p50 / p95",
        ["", "the node", "a node that answers at once"],
        [
            *cells,
            ["from stamp to heard", *whole],
            ["beyond the bare core and a node that answers at once", " / ".join(f"{ms:.1f}" for ms in beyond), ""],
        ],
    )


def _usage(rows: list[dict[str, Any]]) -> Table:
    cells = [
        [
            row["camera"],
            f"{100 * row['node_cpu_share']:.0f} %",
            f"{row['node_resident_mb']:.0f} MB",
            f"{row['start_to_prediction_s']:.1f} s",
            f"{row['sensors_late_ms']:.1f} ms",
        ]
        for row in rows
    ]
    return Table(
        "what the node uses",
        ["camera", "of one core", "memory", "start to first prediction", "sensors late by at most"],
        cells,
    )
