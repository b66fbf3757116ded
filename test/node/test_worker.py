# SPDX-License-Identifier: Apache-2.0
"""The worker with real graphs and real messages, in this process: what it does with odd input, failures and gaps.

Time is real: messages are received when the test says so, and each test waits for the prediction it is about.
"""

from __future__ import annotations

import array
import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from node.bench import STEP_NS, Bench, Recorded, now_ns, settings
from node.harness import PATIENCE_S, time_of

from karmma_msgs.msg import Audio
from karmma_ros.decode_audio import AUDIO, AUDIO_DATA_STAMPED
from karmma_ros.errors import EngineError, SampleError
from karmma_ros.health import SensorState
from karmma_ros.nodes.sensors import Arrival, AudioSensor, CameraSensor, FlowSensor
from karmma_ros.nodes.worker import _SOUND_S, CAMERA, TIMER
from karmma_ros.recognizer import Status


def test_a_frame_is_predicted_with_its_header(bench: Bench) -> None:
    stamp = now_ns()
    outcome = bench.frame(stamp)
    assert (outcome.stamp_ns, outcome.frame_id, outcome.trigger) == (stamp, "eye", CAMERA)
    assert outcome.prediction.status is Status.OK
    assert 0 < outcome.processing_s <= outcome.latency_s < 1
    later = bench.wait("the timer", lambda o: o.trigger == TIMER and o.stamp_ns > stamp)
    assert later.frame_id == "eye"


@pytest.mark.parametrize(
    ("bench", "name"),
    [({"flow_source": "independent", f"{n}_stamp_offset": -0.25}, n) for n in ("video", "flow", "audio")],
    indirect=["bench"],
)
def test_a_stamp_offset_aligns_but_the_header_stays_the_frames(bench: Bench, name: str) -> None:
    recorded = Recorded(bench.recognizer)
    stamp = now_ns()
    bench.flow(stamp)
    bench.sound(stamp, np.zeros(320, np.float32))
    assert bench.frame(stamp).stamp_ns == stamp
    bench.wait_taken("flow", 1)
    bench.wait_taken("audio", 1)
    shifts = {sensor: recorded.of(sensor)[0][0] - stamp for sensor in ("video", "flow", "audio")}
    assert shifts == {"video": 0, "flow": 0, "audio": 0} | {name: -250_000_000}


def test_flow_in_pixels_per_second_becomes_widths_per_second(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    start = now_ns()
    bench.frame(start - STEP_NS)
    bench.flow(start, 16.0)
    bench.wait_taken("flow", 1)
    assert recorded.of("flow")[0][1] == pytest.approx(0.5)


@pytest.mark.parametrize("bench", [{"flow_unit": "pixels_per_frame", "flow_source": "independent"}], indirect=True)
def test_flow_in_pixels_per_frame_needs_a_known_interval(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    start = now_ns() - 1_000_000_000
    stamps = [start, start + 100_000_000, start + 400_000_000, start + 450_000_000]  # unknown, 0.1 s, 0.3 s, 0.05 s
    for count, stamp in enumerate(stamps, 1):
        bench.flow(stamp, 16.0)
        bench.wait_taken("flow", count)
    used = recorded.of("flow")
    assert [stamp for stamp, _ in used] == [stamps[1], stamps[3]]
    assert used[0][1] == pytest.approx(16 / 32 / 0.1)
    assert used[1][1] == pytest.approx(16 / 32 / 0.05)
    flow = bench.sensors["flow"]
    assert isinstance(flow, FlowSensor)
    assert flow.unusable == 2


def test_one_fault_told_again_and_again_keeps_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound whose format nobody says: an error that is raised again holds all the messages that it was raised for."""
    types = {AUDIO: object, AUDIO_DATA_STAMPED: object}
    monkeypatch.setattr("karmma_ros.nodes.sensors.installed_types", lambda: types)
    sensor = AudioSensor(settings(audio_type=AUDIO_DATA_STAMPED))

    class Message:
        audio = b""

    held = []
    for _ in range(10):
        message = Message()
        held.append(weakref.ref(message))
        try:
            sensor.decode(message)
        except SampleError as error:
            assert error.cause == "audio has no format yet"  # noqa: PT017 - excinfo would hold it, too
        del message
    gc.collect()
    assert [reference() for reference in held] == [None] * 10


def test_a_field_spans_the_time_since_the_one_before_also_if_that_is_passed_over() -> None:
    """A machine that is too slow takes the last of four fields; that one spans 0.03 s and not 0.12."""
    flow = FlowSensor(settings(flow_unit="pixels_per_frame", flow_source="independent"))
    for number in range(5):
        flow.store(Arrival(None, number * 30_000_000, number * 0.03))
    (arrival,) = flow.take()
    assert flow.interval_s(arrival) == pytest.approx(0.03)
    assert (flow.health.status(0.12).received, flow.health.status(0.12).skipped) == (4, 4)


@pytest.mark.parametrize("bench", [{"flow_source": "independent"}], indirect=True)
@pytest.mark.parametrize("name", ["video", "flow", "audio"])
def test_a_sensor_that_sends_its_last_sample_again_and_again_is_stale(bench: Bench, name: str) -> None:
    send = {
        "video": bench.send_frame,
        "flow": bench.flow,
        "audio": lambda stamp: bench.sound(stamp, np.full(320, 0.1, np.float32) * (np.arange(320) % 2)),
    }[name]
    now = bench.worker.statistics

    @contextmanager
    def sending(stamp: Callable[[], int]) -> Iterator[None]:
        """Some 50 samples a second meanwhile."""
        ended = threading.Event()

        def send_on() -> None:
            while not ended.wait(0.02):
                send(stamp())

        driver = threading.Thread(target=send_on)
        driver.start()
        try:
            yield
        finally:
            ended.set()
            driver.join()

    with sending(now_ns):
        bench.wait_taken(name, 5)
    last = now_ns()
    count = now().statuses[name].received
    with sending(lambda: last):
        bench.wait("STALE", lambda o: o.statuses[name].state is SensorState.STALE and o.statuses[name].received > count)
    assert now().statuses[name].last_cause == "the same stamp again"
    stale = len(bench.outcomes)
    with sending(now_ns):
        bench.wait(
            "OK", lambda o: o.statuses[name].state is SensorState.OK and any(o is one for one in bench.outcomes[stale:])
        )


def test_flow_of_a_camera_that_is_not_there_is_not_used(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    bench.flow(now_ns())
    bench.wait_taken("flow", 1)
    assert recorded.of("flow") == []
    status = bench.worker.statistics().statuses["flow"]
    assert (status.state, status.rejected) == (SensorState.OK, 0)


def test_flow_that_began_before_the_camera_was_ok_is_not_used(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    start = now_ns() - 500_000_000
    bench.send_frame(start)
    bench.wait_taken("video", 1)
    bench.flow(start)  # from the frame before the first
    bench.wait_taken("flow", 1)
    bench.send_frame(start + STEP_NS)
    bench.wait_taken("video", 2)
    bench.flow(start + STEP_NS)
    bench.wait_taken("flow", 2)
    assert [stamp for stamp, _ in recorded.of("flow")] == [start + STEP_NS]


@pytest.mark.parametrize("bench", [{"modalities": ("flow", "audio")}], indirect=True)
def test_flow_goes_on_when_the_user_switches_the_camera_off(bench: Bench) -> None:
    recorded = Recorded(bench.recognizer)
    bench.flow(now_ns())
    bench.wait_taken("flow", 1)
    assert len(recorded.of("flow")) == 1


def test_a_failing_fusion_is_said_and_survived(bench: Bench) -> None:
    fuse = bench.recognizer.engine.fuse

    def fail(*_: Any) -> Any:
        raise EngineError("out of memory")

    bench.recognizer.engine.fuse = fail  # type: ignore[method-assign]
    outcome = bench.frame(now_ns())
    assert outcome.prediction.status is Status.FAILED
    assert (outcome.prediction.actions, outcome.prediction.verbs) == ((), ())
    statistics = bench.worker.statistics()
    assert statistics.failures >= 1
    assert "out of memory" in statistics.last_failure
    bench.recognizer.engine.fuse = fuse  # type: ignore[method-assign]
    assert bench.frame(now_ns()).prediction.status is Status.OK
    assert len([line for line in bench.warnings if "out of memory" in line]) == 1


@pytest.mark.parametrize("error", [EngineError("device lost"), ValueError("a mistake of ours")])
def test_a_failing_extractor_is_said_and_survived(bench: Bench, error: Exception) -> None:
    encode = bench.recognizer.engine.encode

    def fail(*_: Any) -> Any:
        raise error

    bench.recognizer.engine.encode = fail  # type: ignore[method-assign]
    assert bench.frame(now_ns()).prediction.status is Status.FAILED
    bench.recognizer.engine.encode = encode  # type: ignore[method-assign]
    assert bench.frame(now_ns()).prediction.status is Status.OK


def test_a_mistake_of_ours_in_a_decoder_costs_one_frame(bench: Bench) -> None:
    camera = bench.sensors["video"]
    assert isinstance(camera, CameraSensor)
    decode, raised = camera.decode, threading.Event()

    def fail(_: Any) -> Any:
        raised.set()
        raise ValueError("a mistake of ours")

    camera.decode = fail  # type: ignore[method-assign]
    bench.send_frame(now_ns())
    assert raised.wait(PATIENCE_S)
    camera.decode = decode  # type: ignore[method-assign]
    assert bench.frame(now_ns()).prediction.status is Status.OK
    (line,) = [line for line in bench.warnings if "mistake" in line]
    assert re.fullmatch(r"worker: ValueError: a mistake of ours at test_worker\.py:\d+: .* report it .*", line)
    assert bench.worker.statistics().failures == 1


def test_a_mistake_of_ours_in_publishing_costs_one_prediction(bench: Bench) -> None:
    heard, raised = bench.heard, threading.Event()

    def fail(_: Any) -> None:
        bench.heard = heard  # type: ignore[method-assign]
        raised.set()
        raise ValueError("a mistake of ours")

    bench.heard = fail  # type: ignore[method-assign]
    bench.send_frame(now_ns())
    assert raised.wait(PATIENCE_S)
    assert bench.frame(now_ns()).prediction.status is Status.OK
    (line,) = [line for line in bench.warnings if "mistake" in line]
    assert re.fullmatch(r"worker: ValueError: a mistake of ours at test_worker\.py:\d+: .* report it .*", line)


def test_a_recording_that_starts_again_clears_the_window_and_the_counts(bench: Bench) -> None:
    start = now_ns() - 100_000_000_000
    for index in range(30):
        bench.send_frame(start + index * STEP_NS)
        bench.wait_taken("video", index + 1)
    bench.wait("a full window", lambda o: o.prediction.coverages["video"] > 0.9)
    end = time.monotonic() + PATIENCE_S
    index = 0
    while not any(o.stamp_ns < start - 1_000_000_000 for o in bench.outcomes):
        assert time.monotonic() < end
        bench.send_frame(start - 60_000_000_000 + index * STEP_NS)
        index += 1
        threading.Event().wait(0.02)
    outcome = bench.wait("a prediction of the new time", lambda o: o.stamp_ns < start)
    assert outcome.prediction.coverages["video"] < 0.1
    assert outcome.statuses["video"].received <= 2


def hold_fusion(bench: Bench) -> tuple[threading.Event, threading.Event]:
    """Makes fusion wait: (set when a run has begun, to be set for it to go on)."""
    fuse = bench.recognizer.engine.fuse
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return fuse(*arguments)

    bench.recognizer.engine.fuse = slow  # type: ignore[method-assign]
    return begun, go_on


def test_frames_that_trigger_nothing_leave_the_timer_its_turn(bench: Bench) -> None:
    stamp = now_ns()
    bench.frame(stamp)
    push = bench.recognizer.push

    def too_slow(modality: str, stamp_ns: int, *sample: Any) -> int:
        """By the time that a frame is encoded, the next one, with the same stamp, is waiting."""
        encoded = push(modality, stamp_ns, *sample)
        bench.send_frame(stamp)
        return encoded

    bench.recognizer.push = too_slow  # type: ignore[method-assign]
    bench.send_frame(stamp)
    for periods in (1, 5, 10):
        later_ns = stamp + periods * STEP_NS - STEP_NS // 2
        bench.wait("the timer's turn", lambda o, later_ns=later_ns: o.trigger == TIMER and o.stamp_ns >= later_ns)
    assert bench.outcomes[-1].statuses["video"].received > 10


def test_a_prediction_that_a_restart_overtakes_is_not_published(bench: Bench) -> None:
    begun, go_on = hold_fusion(bench)
    old, new = now_ns() - 3_600_000_000_000, now_ns()
    bench.send_frame(old)
    assert begun.wait(PATIENCE_S)
    bench.worker.restart()
    bench.send_frame(new)
    go_on.set()
    bench.wait("the new frame's prediction", lambda o: o.stamp_ns == new)
    assert all(o.stamp_ns >= new for o in bench.outcomes if o.trigger == CAMERA)


def test_a_sensor_switched_off_during_a_prediction_is_not_told_off_with_its_tokens(bench: Bench) -> None:
    begun, go_on = hold_fusion(bench)
    stamp = now_ns()
    bench.send_frame(stamp)
    assert begun.wait(PATIENCE_S)
    bench.worker.configure(settings(modalities=("flow", "audio")))
    go_on.set()
    outcome = bench.wait("the prediction", lambda o: o.stamp_ns == stamp)
    assert outcome.prediction.coverages["video"] > 0
    assert outcome.statuses["video"].state is SensorState.OK
    bench.wait("DISABLED", lambda o: o.statuses["video"].state is SensorState.DISABLED)


def test_sound_is_encoded_on_the_grid_at_most_two_points_a_pass(bench: Bench) -> None:
    end = now_ns()
    chunk = Audio(sample_rate=16_000, channels=1)
    chunk.samples = array.array("f", np.sin(np.arange(16_000) / 5).astype(np.float32).tobytes())
    chunk.header.stamp = time_of(end - 1_000_000_000)
    bench.worker.receive("audio", chunk)
    outcome = bench.wait("the sound", lambda o: o.statuses["audio"].skipped > 0)
    assert outcome.statuses["audio"].skipped in (6, 7)  # 8 or 9 points lie in a second whose first 0.2 s are context
    assert bench.recognizer.engine.runs["audio"] <= 2


def test_sound_that_waits_leaves_a_frame_its_turn(bench: Bench) -> None:
    """As many chunks as can wait, each of them as much work as there is time for in a pass."""
    store_audio = bench.recognizer.store_audio
    stored: list[int] = []

    def slow(stamp_ns: int, *sound: Any) -> int:
        stored.append(stamp_ns)
        threading.Event().wait(1.5 * _SOUND_S)
        return store_audio(stamp_ns, *sound)

    bench.recognizer.store_audio = slow  # type: ignore[method-assign]
    begun, go_on = hold_fusion(bench)
    stamp = now_ns()
    bench.send_frame(stamp)
    assert begun.wait(PATIENCE_S)
    stamps = [stamp - (50 - k) * 20_000_000 for k in range(50)]
    for number, at in enumerate(stamps):
        rate = 15_999 + 2 * (number % 2)
        bench.sound(at, np.sin(np.arange(rate // 50) / 5).astype(np.float32), rate)
    later = stamp + 10 * STEP_NS  # after anything that the timer may have predicted by now
    bench.send_frame(later)
    go_on.set()
    outcome = bench.wait("the next frame's prediction", lambda o: o.stamp_ns == later)
    assert outcome.statuses["audio"].received <= 1, "the pass before has taken one chunk, and this one none yet"
    bench.wait_taken("audio", 50)
    assert stored == stamps
    assert bench.worker.statistics().statuses["audio"].rejected == 0


@pytest.mark.parametrize("how", ["switched off", "restarted"])
def test_sound_that_waits_for_its_turn_is_overwritten_when_nobody_wants_it_any_more(bench: Bench, how: str) -> None:
    storing, go_on = threading.Event(), threading.Event()

    def held(*_: Any) -> int:
        storing.set()
        assert go_on.wait(PATIENCE_S)
        threading.Event().wait(1.5 * _SOUND_S)
        return 0

    predicting, predict = hold_fusion(bench)
    bench.send_frame(now_ns())
    assert predicting.wait(PATIENCE_S)
    bench.recognizer.store_audio = held  # type: ignore[method-assign]
    chunks = [Audio(sample_rate=16_000, channels=1, samples=array.array("f", [0.5] * 320)) for _ in range(3)]
    for chunk in chunks:
        chunk.header.stamp = time_of(now_ns())
        bench.worker.receive("audio", chunk)
    predict.set()
    assert storing.wait(PATIENCE_S)  # the worker has taken all three
    if how == "switched off":
        bench.worker.configure(settings(modalities=("video", "flow")))
    else:
        bench.worker.restart()
    go_on.set()
    bench.wait("silence in what waited", lambda _: [max(chunk.samples) for chunk in chunks[1:]] == [0, 0])


@pytest.mark.parametrize("bench", [{"clock": lambda: 1_000_000_000}], indirect=True)
def test_a_sensor_switched_off_just_before_the_worker_rests_is_forgotten_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated time stands still: nothing else would wake the worker."""
    forgotten = threading.Event()
    monkeypatch.setattr("karmma_ros.nodes.worker.return_freed_pages", forgotten.set)
    rest, pacer = bench.worker._rest, bench.worker._pacer

    def late() -> None:
        if pacer.wait_s(time.monotonic(), 1_000_000_000) is None:  # for ever
            bench.worker._rest = rest  # type: ignore[method-assign]
            bench.worker.configure(settings(modalities=("flow", "audio")))
        rest()

    bench.worker._rest = late  # type: ignore[method-assign]
    bench.worker.tick()
    assert forgotten.wait(PATIENCE_S)


def test_a_stopped_worker_holds_nothing_of_any_sensor(bench: Bench) -> None:
    bench.send_frame(now_ns())
    bench.wait_taken("video", 1)
    bench.flow(now_ns())
    bench.wait_taken("flow", 1)
    bench.worker.stop()
    assert [sensor._gate._probe for name, sensor in bench.sensors.items() if name != "audio"] == [None, None]
    assert bench.recognizer.predict(now_ns()).status is Status.NO_INPUT


def test_an_audio_chunk_of_nonsense_is_rejected(bench: Bench) -> None:
    chunk = Audio(sample_rate=0, channels=1)
    chunk.samples = array.array("f", np.zeros(100, np.float32).tobytes())
    chunk.header.stamp = time_of(now_ns())
    bench.worker.receive("audio", chunk)
    bench.wait("the rejection", lambda o: o.statuses["audio"].rejected == 1)


def test_switching_a_sensor_off_erases_it(bench: Bench) -> None:
    bench.frame(now_ns())
    bench.worker.configure(settings(modalities=("flow", "audio")))
    outcome = bench.wait("DISABLED", lambda o: o.statuses["video"].state is SensorState.DISABLED)
    assert outcome.prediction.coverages["video"] == 0
    bench.worker.configure(settings())
    assert bench.frame(now_ns()).statuses["video"].state is SensorState.OK


@pytest.mark.parametrize(
    ("bench", "name", "cause"),
    [
        ({"image_max_pixels": 100}, "video", "image is too large"),
        ({"flow_max_pixels": 10}, "flow", "image is too large"),
        ({"future_tolerance": 0.01}, "video", "stamp in the future"),
        ({"audio_max_chunk": 0.01}, "audio", "audio chunk is too long"),
    ],
    indirect=["bench"],
)
def test_a_limit_that_is_set_holds(bench: Bench, name: str, cause: str) -> None:
    ahead_ns = 400_000_000 if "future" in cause else 0
    if name == "video":
        bench.send_frame(now_ns() + ahead_ns)
    elif name == "flow":
        bench.flow(now_ns())
    else:
        bench.sound(now_ns(), np.zeros(320, np.float32))
    bench.wait("the refusal", lambda o: o.statuses[name].last_cause == cause)


def test_the_patience_with_a_sensor_is_what_is_set() -> None:
    chosen = settings(stale_intervals=7.0, stale_recovery=5, corrupt_samples=6, stale_min_timeout=0.4)
    health = CameraSensor(chosen).health
    assert (health.timeout_intervals, health.recovery_samples) == (7.0, 5)
    assert (health.corrupt_after, health.min_timeout_s) == (6, 0.4)


def test_a_frame_that_is_being_decoded_when_all_starts_anew_does_not_count(bench: Bench) -> None:
    camera = bench.sensors["video"]
    decode = camera.decode
    begun, go_on = threading.Event(), threading.Event()

    def held(*message: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return decode(*message)

    camera.decode = held  # type: ignore[method-assign]
    bench.send_frame(now_ns())
    assert begun.wait(PATIENCE_S)
    camera.decode = decode  # type: ignore[method-assign]
    bench.worker.restart()
    go_on.set()
    assert bench.frame(now_ns()).statuses["video"].received == 1


def test_a_copy_that_replaces_its_original_counts_as_that() -> None:
    """On a machine that is too slow, of two copies of each frame the second is all that is looked at."""
    camera = CameraSensor(settings())
    for number in range(4):
        stamp = number * STEP_NS
        for _ in range(2):
            camera.store(Arrival(None, stamp, number * 0.033, again=camera.repeats(stamp)))
        (arrival,) = camera.take()
        assert (arrival.stamp_ns, arrival.again) == (stamp, False)
    assert camera.health.status(0.1).skipped == 0, "and no frame was passed over"
