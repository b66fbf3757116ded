# SPDX-License-Identifier: Apache-2.0
"""The worker on a bench: real graphs and real messages in this process, and what it publishes."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from node.harness import PATIENCE_S, picture, time_of
from sensor_msgs.msg import Image

from karmma_msgs.msg import Audio
from karmma_ros.nodes.parameters import PARAMETERS, Settings
from karmma_ros.nodes.sensor_set import make_sensors
from karmma_ros.nodes.worker import CAMERA, Outcome, Worker
from karmma_ros.recognizer import Recognizer

STEP_NS = 33_333_333


def settings(**changes: Any) -> Settings:
    values = {name.replace(".", "_"): declaration.default for name, declaration in PARAMETERS.items()}
    values["modalities"] = tuple(values["modalities"])  # type: ignore[arg-type]
    return Settings(**(values | changes))  # type: ignore[arg-type]


class Bench:
    """A worker on a bench: feeds it messages and listens to what it publishes."""

    def __init__(self, recognizer: Recognizer, *, clock: Callable[[], int] | None = None, **changes: Any) -> None:
        """:param clock: simulated time [ns]: the timer follows it, however long this machine takes for anything."""
        self.recognizer = recognizer
        self.outcomes: list[Outcome] = []
        self.warnings: list[str] = []
        self._news = threading.Condition()
        self.settings = settings(**changes)
        self.sensors = make_sensors(recognizer.bundle.modalities, self.settings)
        self.worker = Worker(
            recognizer,
            self.sensors,
            self.settings,
            follow_clock=lambda: clock is not None,
            clock=clock or time.time_ns,
            publish=lambda outcome: self.heard(outcome),
            warn=self.warnings.append,
        )
        self.worker.start()

    def heard(self, outcome: Outcome) -> None:
        """Called by the worker; a test may put something else in its place."""
        with self._news:
            self.outcomes.append(outcome)
            self._news.notify_all()

    def wait(self, what: str, test: Callable[[Outcome], bool]) -> Outcome:
        """The first outcome so far or to come that passes."""
        with self._news:
            found = self._news.wait_for(lambda: next((o for o in self.outcomes if test(o)), None), PATIENCE_S)
        assert found is not None, f"waited in vain for {what}; warnings: {self.warnings}"
        return found

    def frame(self, stamp_ns: int) -> Outcome:
        """Sends a frame and waits for its prediction."""
        self.send_frame(stamp_ns)
        return self.wait("the frame's prediction", lambda o: o.trigger == CAMERA and o.stamp_ns == stamp_ns)

    def send_frame(self, stamp_ns: int, rgb: npt.NDArray[np.uint8] | None = None) -> None:
        """:param rgb: (24, 32, 3); None: what a working camera could see."""
        rgb = picture(100, stamp_ns // STEP_NS, height=24, width=32) if rgb is None else rgb
        image = Image(height=24, width=32, encoding="rgb8", step=96)
        image.data = array.array("B", rgb.tobytes())
        image.header.stamp = time_of(stamp_ns)
        image.header.frame_id = "eye"
        self.worker.receive("video", image)

    def sound(self, stamp_ns: int, mono: npt.NDArray[np.float32], rate: int = 16_000) -> None:
        chunk = Audio(sample_rate=rate, channels=1, samples=array.array("f", mono.tobytes()))
        chunk.header.stamp = time_of(stamp_ns)
        self.worker.receive("audio", chunk)

    def flow(self, stamp_ns: int, level: float = 16.0) -> None:
        self.send_flow(stamp_ns, np.full((24, 32, 2), level, np.float32))

    def send_flow(self, stamp_ns: int, field: npt.NDArray[np.float32]) -> None:
        """:param field: (24, 32, 2), pixels per second."""
        image = Image(height=24, width=32, encoding="32FC2", step=32 * 8)
        image.data = array.array("B", field.astype(np.float32).tobytes())
        image.header.stamp = time_of(stamp_ns)
        self.worker.receive("flow", image)

    def wait_taken(self, name: str, count: int) -> None:
        """Waits until so many samples of a sensor were decoded; predictions by the timer keep coming meanwhile."""
        self.wait(f"{count} of {name}", lambda o: o.statuses[name].received + o.statuses[name].rejected >= count)


class Recorded:
    """Stands before a recogniser's `push` and `store_audio` and keeps what goes through."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.samples: list[tuple[str, int, npt.NDArray[Any]]] = []
        push, store_audio = recognizer.push, recognizer.store_audio

        def record(modality: str, stamp_ns: int, sample: npt.NDArray[Any], rate: int | None = None) -> int:
            self.samples.append((modality, stamp_ns, sample))
            return push(modality, stamp_ns, sample, rate)

        def record_audio(stamp_ns: int, samples: npt.NDArray[Any], rate: int | None = None) -> int:
            self.samples.append(("audio", stamp_ns, samples))
            return store_audio(stamp_ns, samples, rate)

        recognizer.push = record  # type: ignore[method-assign]
        recognizer.store_audio = record_audio  # type: ignore[method-assign]

    def of(self, modality: str) -> list[tuple[int, npt.NDArray[Any]]]:
        return [(stamp, sample) for name, stamp, sample in self.samples if name == modality]


def now_ns() -> int:
    return time.time_ns()
