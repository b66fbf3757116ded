# SPDX-License-Identifier: Apache-2.0
"""Flow computed inside the node is flow_node's: the same fields, the same tokens, the same silence of a bad camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from node.bench import STEP_NS, Bench, Recorded, settings
from node.harness import PATIENCE_S
from sensor_msgs.msg import Image

from karmma_ros.bundle import load_bundle
from karmma_ros.health import SensorState
from karmma_ros.messages import flow_to_msg, image_to_msg
from karmma_ros.nodes.camera_flow import CameraFlow
from karmma_ros.nodes.computed_flow import ComputedFlow
from karmma_ros.nodes.flow_parameters import PARAMETERS
from karmma_ros.nodes.flow_parameters import Settings as FlowSettings
from karmma_ros.nodes.sensors import Arrival
from karmma_ros.recognizer import Prediction, Recognizer
from karmma_ros.tabletop.sequence import make_sequence

FRAMES = 24


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """The first rendered frames of a scene, (240, 320, 3)."""
    shown = make_sequence(3, "test", duration_s=2.0).frames()
    return [next(shown) for _ in range(FRAMES)]


class Stage:
    """A worker on simulated time, to which frames are shown one after the other, each one's flow before the next."""

    def __init__(self, toy: Path, *, inside: bool) -> None:
        self.stamp_ns = 1_700_000_000_000_000_000
        self.settings = {"flow_compute": inside, "stale_min_timeout": 60.0}  # this machine may be busy: no STALE
        self.bench = Bench(Recognizer(toy), clock=lambda: self.stamp_ns, **self.settings)
        self.used = Recorded(self.bench.recognizer)
        self.stamps: list[int] = []
        self._flow = None if inside else flow_of(toy)
        self.published: set[int] = set()  # indices of the frames whose flow came over the topic

    def show(self, frames: list[np.ndarray]) -> None:
        fields = self.bench.worker.statistics().statuses["flow"].received
        for rgb in frames:
            self.stamp_ns += STEP_NS
            self.stamps.append(self.stamp_ns)
            message = image_to_msg(self.stamp_ns, "eye", rgb)
            self.bench.worker.receive("video", message)
            self.predicted(self.stamp_ns)
            if self._flow is not None:
                field = self._flow.push(message, self.stamp_ns / 1e9, self.stamp_ns)
                if field is None:
                    continue
                self.published.add(len(self.stamps) - 1)
                self.bench.worker.receive("flow", flow_to_msg(self.stamp_ns, "eye", field))
            elif self.bench.worker.statistics().statuses["video"].state is not SensorState.OK:
                continue
            fields += 1  # inside, one that no frame came before counts as received too
            self._wait_received(fields)

    def predicted(self, stamp_ns: int) -> Prediction:
        return self.bench.wait("a frame's prediction", lambda o: o.stamp_ns == stamp_ns).prediction

    def fields(self) -> dict[int, np.ndarray]:
        """The fields that were encoded, by the index of their frame."""
        return {self.stamps.index(stamp): field for stamp, field in self.used.of("flow")}

    def _wait_received(self, fields: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.bench.worker.statistics().statuses["flow"].received < fields:
            assert time.monotonic() < end, f"waited in vain for {fields} fields"
            threading.Event().wait(0.002)


@pytest.fixture
def both(toy: Path) -> Iterator[tuple[Stage, Stage]]:
    """Flow computed inside, and by flow_node's core."""
    stages = Stage(toy, inside=True), Stage(toy, inside=False)
    yield stages
    for stage in stages:
        stage.bench.worker.stop()


def flow_of(toy: Path) -> CameraFlow:
    values = {name.replace(".", "_"): declaration.default for name, declaration in PARAMETERS.items()}
    set_ = FlowSettings(**(values | {"bundle": str(toy)}))  # type: ignore[arg-type]
    return CameraFlow(set_.make_producer(), set_, print)


def test_both_ways_give_the_same_tokens(both: tuple[Stage, Stage], frames: list[np.ndarray]) -> None:
    for stage in both:
        stage.show(frames)
    ours, theirs = (stage.fields() for stage in both)
    assert list(ours) == list(theirs) == list(range(1, FRAMES))
    assert ours[5].shape == (48, 64, 2)  # the toy bundle's producer
    assert np.abs(ours[5]).max() > 0.01
    for index, field in ours.items():
        np.testing.assert_allclose(field, theirs[index], rtol=1e-6)
    for stamp in both[0].stamps:
        a, b = (stage.predicted(stamp) for stage in both)
        assert a.coverages == b.coverages
        for head in a.logits:
            np.testing.assert_allclose(a.logits[head], b.logits[head], atol=1e-5)
    assert a.coverages["flow"] > 0.7


def test_a_covered_camera_gives_no_flow_either_way(both: tuple[Stage, Stage], frames: list[np.ndarray]) -> None:
    black = [np.zeros_like(frames[0])] * 9
    for stage in both:
        stage.show([*frames[:6], *black, *frames[15:]])
    ours, theirs = (set(stage.fields()) for stage in both)
    assert ours == theirs
    # OCCLUDED 0.2 s after the first black frame; OK 0.2 s after the last, and then a field needs two frames.
    assert set(range(1, 12)) <= ours
    assert not ours & set(range(13, 22))
    assert max(ours) == FRAMES - 1
    assert both[1].published == theirs, "flow_node itself keeps quiet"


@pytest.mark.parametrize("between", ["nothing", "a frame not believed", "the camera switched off", "turned"])
def test_no_flow_is_computed_across_an_interruption(toy: Path, frames: list[np.ndarray], between: str) -> None:
    producer = load_bundle(toy).modalities["flow"].producer
    assert producer is not None
    flow = ComputedFlow(settings(), producer, "image")
    arrivals = [Arrival(rgb, 10**9 + index * STEP_NS, 0.0) for index, rgb in enumerate(frames[:2])]
    fields = []
    for arrival in arrivals:
        flow.frame(arrival, arrival.message, believed=True)
        (taken,) = flow.take()
        fields.append(flow.decode(taken, None))
        if between == "a frame not believed":
            flow.frame(arrival, arrival.message, believed=False)
        elif between != "nothing":
            changes = {"modalities": ("flow",)} if "off" in between else {"image_rotate": 180}
            flow.configure(settings(**changes))
            flow.configure(settings())
    assert fields[0] is None
    assert (fields[1] is not None) == (between == "nothing")


def test_flow_begins_anew_after_the_camera_was_switched_off(
    both: tuple[Stage, Stage], frames: list[np.ndarray]
) -> None:
    inside, _ = both
    inside.show(frames[:3])
    inside.bench.worker.configure(settings(**inside.settings, modalities=("flow", "audio")))
    inside.bench.worker.configure(settings(**inside.settings))
    inside.show(frames[3:6])
    assert list(inside.fields()) == [1, 2, 4, 5]


def test_a_message_of_flow_says_pixels_per_second_of_its_own_width() -> None:
    field = np.full((3, 4, 2), 0.5, np.float32)
    message: Image = flow_to_msg(1_500_000_000, "eye", field)
    assert (message.encoding, message.width, message.height, message.step) == ("32FC2", 4, 3, 32)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (1, 500_000_000, "eye")
    assert set(np.frombuffer(message.data, np.float32)) == {2.0}
