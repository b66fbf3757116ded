# SPDX-License-Identifier: Apache-2.0
"""The one thread that decodes and infers, newest first.

Subscriptions hand messages to `receive`, which only stores them and wakes the thread. Each pass takes the newest frame
(or the timer's turn), then the newest flow field, the newest detections and as much of the sound as there is time for:
a machine that is too slow for every frame still gives every sensor its turn. A frame that comes while another sensor
has its turn waits for the rest of that pass.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from karmma_ros.belief import CameraBelief, erase
from karmma_ros.content import Verdict
from karmma_ros.decode import check_stamp
from karmma_ros.errors import EngineError, SampleError
from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.memory import return_freed_pages, wipe
from karmma_ros.messages import stamp_to_ns
from karmma_ros.nodes.computed_flow import ComputedFlow
from karmma_ros.nodes.faults import FaultLog
from karmma_ros.nodes.parameters import Settings
from karmma_ros.nodes.sensors import Arrival, AudioSensor, CameraSensor, DetectionsSensor, FlowSensor, Sensor
from karmma_ros.pacing import Pacer
from karmma_ros.recognizer import LIVE_AUDIO_LIMIT, Prediction, Recognizer, Status
from karmma_ros.window import to_ns

__all__ = ["CAMERA", "TIMER", "Outcome", "Statistics", "Worker"]

CAMERA, TIMER = 0, 1  # ActionPrediction.trigger
_FAR_S = 10.0  # [s] between a stamp and the node's clock that mean they are not the same clock
_CLOCK_BACK_S = 0.1  # [s] by which the node's clock must fall behind the steady one, at once, to have been set back
_COVERAGE_S = 3.0  # [s] time constant of the average of a sensor's coverage
_SOUND_S = 0.02  # [s] of a pass after which sound that still waits is left to the next: frames have their turn between


@dataclass(frozen=True)
class Outcome:
    """A prediction with all that its message needs."""

    prediction: Prediction
    trigger: int
    stamp_ns: int  # for the header: the frame's own stamp, or the same clock's time
    frame_id: str
    statuses: Mapping[str, SensorStatus]
    latency_s: float
    processing_s: float


@dataclass(frozen=True)
class Statistics:
    """What happened since activation (or the last jump of the clock)."""

    counts: Mapping[str, int]
    latencies_s: tuple[float, ...]  # of the last predictions
    period_s: float
    faults: Mapping[str, int]
    failures: int  # failed runs since the last `statistics()`
    last_failure: str  # the last one's error
    statuses: Mapping[str, SensorStatus]
    lags_s: Mapping[str, float]  # from a sample's stamp to its arrival; of sensors that were heard
    coverages: Mapping[str, float]  # share of a sensor's slots that is filled, averaged while it is OK; 1 before
    gaps: int  # in the sound: places where samples are missing


class Worker:
    """Owns the thread, the pacer and what waits for them; `recognizer` does the work."""

    def __init__(
        self,
        recognizer: Recognizer,
        sensors: Mapping[str, Sensor[Any]],
        settings: Settings,
        *,
        follow_clock: Callable[[], bool],
        clock: Callable[[], int],
        publish: Callable[[Outcome], None],
        warn: Callable[[str], None],
    ) -> None:
        """:param follow_clock: whether the clock is simulated time.
        :param clock: the node's clock [ns]; 0 while unknown.
        :param publish: called from the thread, once for each prediction.
        :param warn: logs one line.
        """
        self._recognizer = recognizer
        self._sensors = sensors
        self._settings = settings
        self._clock = clock
        self._follow_clock = follow_clock
        self._publish = publish
        self._lines: deque[str] = deque()  # for the log; said without the lock, since a log may block
        self._warn = self._lines.append
        self._log = warn
        # Guards all below. Held for bookkeeping only, never while decoding, inferring or publishing.
        self._wake = threading.Condition()
        self._pacer = Pacer(rate_hz=settings.rate, max_rate_hz=settings.max_rate)
        self._faults = FaultLog(self._warn)
        self._thread: threading.Thread | None = None
        self._running = False
        self._hinted = False  # at old stamps
        self._leave_nothing = False  # a sensor was switched off: freed memory is to be given back
        self._epoch = 0  # counts restarts: work begun before one is not published after it
        self._begin()

    def _begin(self) -> None:
        """Everything that a restart forgets."""
        self._counts: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=300)
        self._camera_belief = CameraBelief()
        self._frame_id = ""
        self._broken: dict[str, str] = {}  # the error of each modality's extractor that failed when it last ran
        self._coverages = dict.fromkeys(self._sensors, 1.0)
        self._covered_ns: int | None = None  # stamp of the prediction that these are of
        self._least_ahead_ns: int | None = None  # by which the clock was ahead of the steady one at the last arrival
        self._failures, self._last_failure = 0, ""

    # --- called from the executor's thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread, with nothing known of any sensor."""
        self.restart()
        self._hinted = False
        self._running = True
        self._thread = threading.Thread(target=self._run, name="karmma_worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread and waits for it; nothing that any sensor sent is held then."""
        with self._wake:
            self._running = False
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def restart(self) -> None:
        """Forgets window, health and statistics: the clock has jumped back, or is another one."""
        with self._wake:
            self._restart()
            self._wake.notify()

    def _restart(self) -> None:
        self._epoch += 1
        self._begin()
        self._pacer.reset()
        self._pacer.follow_clock = self._follow_clock()
        self._recognizer.reset()
        for sensor in self._sensors.values():
            sensor.restart()

    def tick(self) -> None:
        """Simulated time has moved."""
        with self._wake:
            self._wake.notify()

    def configure(self, settings: Settings) -> None:
        """Takes over the settings that may change while the node runs."""
        with self._wake:
            turned = settings.image_rotate != self._settings.image_rotate
            self._settings = settings
            self._recognizer.top_k = settings.top_k
            self._recognizer.min_score = settings.min_score
            self._pacer.max_rate_hz = settings.max_rate
            for name, sensor in self._sensors.items():
                sensor.configure(settings)
                if sensor.health.enabled and name not in settings.modalities:
                    sensor.restart()
                    self._leave_nothing = True
                sensor.health.enabled = name in settings.modalities
            self._recognizer.modalities = [name for name in self._sensors if name in settings.modalities]
            if turned:  # what was seen the other way up is no part of this window, nor what is being decoded
                self._epoch += 1
                for name, sensor in self._sensors.items():
                    if isinstance(sensor, CameraSensor | DetectionsSensor | ComputedFlow):
                        self._recognizer.clear(name)
            self._wake.notify()

    def receive(self, name: str, message: Any) -> None:
        """Stores a message that has just arrived."""
        before_s = time.monotonic()
        clock_ns = self._clock()
        self._receive(self._sensors[name], message, before_s, clock_ns, time.monotonic())
        self._say()

    def _receive(self, sensor: Sensor[Any], message: Any, now_s: float, clock_ns: int, after_s: float) -> None:
        """:param now_s: steady time just before the clock said clock_ns; after_s: just after."""
        name, stamp_ns = sensor.name, stamp_to_ns(message.header.stamp)
        with self._wake:
            if not self._running or not sensor.health.enabled:
                return
            if self._clock_was_set_back(clock_ns - to_ns(now_s), clock_ns - to_ns(after_s)):
                self._warn("the clock was set back: starting afresh")
                self._restart()
            try:
                if stamp_ns > 0:
                    stamp_ns += sensor.offset_ns
                check_stamp(stamp_ns, clock_ns, self._settings.future_tolerance)
            except SampleError as error:
                self._reject(sensor, error, now_s)
                return
            self._hint(stamp_ns, clock_ns)
            if self._pacer.arrived(name, stamp_ns, now_s, clock_ns):
                self._warn(f"stamps of {name} are far behind the last prediction: starting afresh from them")
                self._restart()
                self._pacer.arrived(name, stamp_ns, now_s, clock_ns)
            if clock_ns > 0:
                sensor.lagged((clock_ns - stamp_ns) * 1e-9, message)
            sensor.store(Arrival(message, stamp_ns, now_s, again=sensor.repeats(stamp_ns)))
            self._wake.notify()

    def _clock_was_set_back(self, most_ahead_ns: int, least_ahead_ns: int) -> bool:
        """Whether it fell behind the steady clock since the last message. Simulated time tells of its jumps itself.

        :param most_ahead_ns, least_ahead_ns: between these it is ahead of the steady one: both cannot be read at once.
        """
        before_ns, self._least_ahead_ns = self._least_ahead_ns, least_ahead_ns
        if before_ns is None or self._pacer.follow_clock:
            return False
        return before_ns - most_ahead_ns > to_ns(_CLOCK_BACK_S)

    def _say(self) -> None:
        """Logs what was noted under the lock."""
        while True:
            try:
                line = self._lines.popleft()
            except IndexError:  # both threads come here
                return
            self._log(line)

    def _hint(self, stamp_ns: int, clock_ns: int) -> None:
        if not self._hinted and clock_ns - stamp_ns > _FAR_S * 1e9:
            self._hinted = True
            age_s = (clock_ns - stamp_ns) * 1e-9
            self._warn(
                f"stamps are {age_s:.0f} s older than the clock, which works; "
                "if this is a recording, play it with --clock and set use_sim_time"
            )

    def statistics(self) -> Statistics:
        """For the diagnostics."""
        now_s = time.monotonic()
        with self._wake:
            counts = Counter(self._counts)
            for graph, runs in dict(self._recognizer.engine.runs).items():  # the worker's thread goes on counting
                counts[f"{graph}_runs"] = runs
            counts["inference_retries"] = self._recognizer.engine.retries
            failures, self._failures = self._failures, 0
            return Statistics(
                counts=counts,
                latencies_s=tuple(self._latencies),
                period_s=self._pacer.period_s,
                faults=dict(self._faults.counts),
                failures=failures,
                last_failure=self._last_failure,
                statuses=self._statuses(now_s),
                lags_s={name: sensor.lag_s for name, sensor in self._sensors.items() if sensor.lag_s is not None},
                coverages=dict(self._coverages),
                gaps=self._recognizer.audio_gaps,
            )

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._running:
            busy = self._step(self._frame_or_timer)
            busy = self._step(self._flow) or busy
            busy = self._step(self._detections) or busy
            busy = self._step(self._audio) or busy
            if self._leave_nothing:  # here, where nothing of that sensor can be under way any more
                self._leave_nothing = False
                self._forget_content()
            self._say()
            if not busy:
                self._rest()
        self._say()
        with self._wake:
            self._restart()
        self._forget_content()

    def _forget_content(self) -> None:
        """Leaves nothing in memory of sensors that were restarted or switched off."""
        for sensor in self._sensors.values():
            sensor.forget_content()
        return_freed_pages()

    def _rest(self) -> None:
        """Sleeps until a message, a tick or the timer's turn."""
        with self._wake:
            if not self._running or self._leave_nothing or any(sensor.waiting for sensor in self._sensors.values()):
                return
            wait_s = self._pacer.wait_s(time.monotonic(), self._clock())
            if wait_s is None or wait_s > 0:
                self._wake.wait(wait_s)

    def _step(self, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except Exception as error:  # nothing that a sensor or a graph does may end the thread
            if self._running:
                with self._wake:
                    self._failed("worker", error)
            return False

    def _take(self, name: str) -> tuple[list[Arrival[Any]], int]:
        with self._wake:
            sensor = self._sensors.get(name)
            return ([] if sensor is None else sensor.take()), self._epoch

    def _frame_or_timer(self) -> bool:
        taken, epoch = self._take(CameraSensor.name)
        for number, arrival in enumerate(taken[:-1]):
            if self._dropped(CameraSensor.name, taken[number:], epoch):
                return True
            self._frame_of_clip(arrival, epoch)
        # A frame that triggers nothing (too old, a stamp once more) must not cost the timer its turn: on a machine that
        # is too slow for every frame, the next one is waiting by now.
        if taken and self._frame(taken[-1], epoch):
            return True
        with self._wake:
            epoch = self._epoch
            due = self._pacer.poll(time.monotonic(), self._clock())
            if due is not None:
                self._counts["skipped_predictions"] += due.skipped
        if due is None:
            return bool(taken)
        self._predict(due.stamp_ns, TIMER, due.due_s, epoch, None, time.perf_counter())
        return True

    def _frame(self, arrival: Arrival[Any], epoch: int) -> bool:
        """Encodes a frame, and predicts if it triggers; whether it did."""
        started = time.perf_counter()
        seen = self._see(arrival, epoch)
        if seen is None:
            return False
        camera, state, rgb = seen
        with self._wake:
            self._frame_id = arrival.message.header.frame_id
        if state is SensorState.OK:
            self._encode(camera, arrival, epoch, lambda: self._recognizer.push(camera.name, arrival.stamp_ns, rgb))
        flow = self._sensors.get(FlowSensor.name)
        with self._wake:
            if isinstance(flow, ComputedFlow) and epoch == self._epoch:
                flow.frame(arrival, rgb, state is SensorState.OK)
            triggers = epoch == self._epoch and self._pacer.triggers(arrival.stamp_ns)
        if triggers:
            self._predict(arrival.stamp_ns, CAMERA, arrival.now_s, epoch, arrival.message, started)
        return triggers

    def _see(self, arrival: Arrival[Any], epoch: int) -> tuple[CameraSensor, SensorState, Any] | None:
        """Decodes and judges a frame: the camera, its state and the picture, or None for a bad or outdated frame."""
        camera = self._sensors[CameraSensor.name]
        assert isinstance(camera, CameraSensor)
        with self._wake:
            self._camera_belief.check(camera.health.state(arrival.now_s))
        sample = self._decode(camera, arrival, epoch, lambda: (camera.decode(arrival.message), 0))
        return None if sample is None else (camera, *sample)

    def _frame_of_clip(self, arrival: Arrival[Any], epoch: int) -> None:
        """A frame that there was no time to predict for, in the clips of those that come after it."""
        seen = self._see(arrival, epoch)
        if seen is None:
            return
        camera, state, rgb = seen
        if state is SensorState.OK:
            self._encode(camera, arrival, epoch, lambda: self._recognizer.keep(camera.name, arrival.stamp_ns, rgb))
        flow = self._sensors.get(FlowSensor.name)
        with self._wake:
            if epoch != self._epoch:
                return
            camera.health.skipped()
            if isinstance(flow, ComputedFlow):
                flow.frame(arrival, rgb, state is SensorState.OK)

    def _flow(self) -> bool:
        taken, epoch = self._take(FlowSensor.name)
        for number, arrival in enumerate(taken[:-1]):
            if self._dropped(FlowSensor.name, taken[number:], epoch):
                return True
            if not self._field(arrival, epoch, self._recognizer.keep):
                continue
            with self._wake:
                if epoch == self._epoch:
                    self._sensors[FlowSensor.name].health.skipped()
        for arrival in taken[-1:]:
            self._field(arrival, epoch, self._recognizer.push)
        return bool(taken)

    def _field(self, arrival: Arrival[Any], epoch: int, use: Callable[[str, int, Any], int]) -> bool:
        """Decodes a field of flow and, if it is to be believed, gives it to the recogniser by `use`.

        :return: whether it could be decoded, and counts.
        """
        flow = self._sensors[FlowSensor.name]
        assert isinstance(flow, FlowSensor)
        interval_s = flow.interval_s(arrival)
        sample = self._decode(flow, arrival, epoch, lambda: (flow.decode(arrival, interval_s), 0))
        if sample is None:
            return False
        state, field = sample
        with self._wake:
            usable = field is not None and self._camera_was_ok(flow, arrival, interval_s)
            self._count_unusable(flow, usable=usable)
        if usable and state is SensorState.OK:
            self._encode(flow, arrival, epoch, lambda: use(flow.name, arrival.stamp_ns, field))
        return True

    def _count_unusable(self, sensor: FlowSensor | DetectionsSensor, *, usable: bool) -> None:
        """Counts a sample that says nothing. While none does, it does not matter that its extractor has failed."""
        if not usable:
            sensor.unusable += 1
            self._broken.pop(sensor.name, None)

    def _camera_was_ok(self, flow: FlowSensor, arrival: Arrival[Any], interval_s: float | None) -> bool:
        """Whether the camera that a field was computed from was OK all the time that the field spans.

        A camera switched off by the user is not judged: nothing is known of it.
        """
        camera = self._sensors.get(CameraSensor.name)
        if not flow.follows_camera or camera is None or not camera.health.enabled:
            return True
        # As of the field's arrival: the frames that came after it say nothing about its time.
        self._camera_belief.check(camera.state(arrival.now_s))
        period_s = self._pacer.camera_s
        return self._camera_belief.spans(arrival.stamp_ns - to_ns(interval_s or period_s), period_s)

    def _detections(self) -> bool:
        taken, epoch = self._take(DetectionsSensor.name)
        if not taken:
            return False
        arrival = taken[-1]
        detections = self._sensors[DetectionsSensor.name]
        assert isinstance(detections, DetectionsSensor)
        camera = self._sensors.get(CameraSensor.name)
        size = camera.sent_size if isinstance(camera, CameraSensor) else None
        sample = self._decode(detections, arrival, epoch, lambda: (detections.decode(arrival.message, size), 0))
        if sample is None:
            return True
        state, boxes = sample
        with self._wake:
            usable = True  # nothing is known of a camera that is switched off
            if camera is not None and camera.health.enabled:
                usable = self._camera_belief.shows(arrival.stamp_ns, camera.state(arrival.now_s))
            self._count_unusable(detections, usable=usable)
        if usable and state is SensorState.OK:
            self._encode(
                detections, arrival, epoch, lambda: self._recognizer.push(detections.name, arrival.stamp_ns, boxes)
            )
        return True

    def _audio(self) -> bool:
        taken, epoch = self._take(AudioSensor.name)
        if not taken:
            return False
        audio = self._sensors[AudioSensor.name]
        assert isinstance(audio, AudioSensor)
        state = SensorState.WAITING
        until_s = time.monotonic() + _SOUND_S
        for count, arrival in enumerate(taken, 1):

            def store(arrival: Arrival[Any] = arrival) -> tuple[Any, int]:
                samples, rate = audio.decode(arrival.message)
                self._recognizer.store_audio(arrival.stamp_ns, samples, rate)
                return samples, rate

            sample = self._decode(audio, arrival, epoch, store)
            state = sample[0] if sample is not None else state
            if time.monotonic() > until_s:
                self._put_back(audio, taken[count:], epoch)
                break
        # While the microphone is not live, what has become due is passed over.
        limit = LIVE_AUDIO_LIMIT if state is SensorState.OK else 0

        def encode() -> int:
            encoded, skipped = self._recognizer.encode_due_audio(limit)
            with self._wake:
                audio.health.skipped(skipped if limit else 0)
            return encoded

        self._encode(audio, arrival, epoch, encode)
        return True

    def _dropped(self, name: str, arrivals: list[Arrival[Any]], epoch: int) -> bool:
        """Whether nobody wants these messages any more, which are overwritten then."""
        with self._wake:
            if self._running and epoch == self._epoch and self._sensors[name].health.enabled:
                return False
        for arrival in arrivals:
            wipe(arrival.message)
        return True

    def _put_back(self, sensor: Sensor[Any], arrivals: list[Arrival[Any]], epoch: int) -> None:
        """Lets messages wait on, before those that came meanwhile; overwrites them if nobody wants them any more."""
        with self._wake:
            if self._dropped(sensor.name, arrivals, epoch):
                return
            for arrival in [*arrivals, *sensor.take()]:
                sensor.store(arrival)

    def _decode(
        self, sensor: Sensor[Any], arrival: Arrival[Any], epoch: int, decode: Callable[[], tuple[Any, int]]
    ) -> tuple[SensorState, Any] | None:
        """Decodes a message and tells the sensor's health; (state, sample), or None for a bad or outdated one.

        :param decode: gives the sample and, for sound, its rate; a sample of None cannot be judged nor used.
        """
        verdict = Verdict(SensorState.OK)
        try:
            sample, rate = decode()
            if sample is not None:
                verdict = sensor.judge(arrival.stamp_ns, sample, rate)
        except SampleError as error:
            with self._wake:
                if epoch == self._epoch:
                    self._reject(sensor, error, arrival.now_s)
            return None
        with self._wake:
            if epoch != self._epoch:
                return None
            if arrival.again:
                state = sensor.health.repeated(arrival.now_s)
            else:
                state = sensor.health.received(arrival.now_s, verdict.state)
            if sensor.name == CameraSensor.name:
                self._camera_belief.seen(arrival.stamp_ns, verdict, state)
            if verdict.fresh:
                self._distrust(sensor, verdict)
            return state, sample

    def _distrust(self, sensor: Sensor[Any], verdict: Verdict) -> None:
        """Erases what a sensor gave since its content has been wrong, and what was computed from it."""
        flow = self._sensors.get(FlowSensor.name)
        follows = isinstance(flow, FlowSensor) and flow.follows_camera
        erase(self._recognizer, sensor.name, verdict.since_ns, flow_follows=follows)
        self._faults.state(sensor.name, verdict.state.name, time.monotonic())

    def _encode(self, sensor: Sensor[Any], arrival: Arrival[Any], epoch: int, encode: Callable[[], int]) -> None:
        """:param encode: gives how many tokens came of it."""
        try:
            encoded = encode()
            with self._wake:
                if encoded:
                    self._broken.pop(sensor.name, None)
                if epoch != self._epoch:  # a restart came between: one token of the old time would outlast the new ones
                    self._recognizer.clear(sensor.name)
        except SampleError as error:
            with self._wake:
                if epoch == self._epoch:
                    self._reject(sensor, error, arrival.now_s)
        except Exception as error:  # whatever ONNX Runtime or our own code raises
            with self._wake:
                self._broken[sensor.name] = f"{sensor.name}: {error}"
                self._failed(sensor.name, error)

    def _reject(self, sensor: Sensor[Any], error: SampleError, now_s: float) -> None:
        sensor.health.rejected(now_s, error.cause)
        self._faults.report(sensor.name, error, now_s)

    def _failed(self, where: str, error: Exception) -> None:
        self._failures += 1
        self._last_failure = f"{where}: {error}"
        self._faults.report(where, error, time.monotonic())

    def _predict(
        self, stamp_ns: int, trigger: int, due_s: float, epoch: int, frame: Any | None, started: float
    ) -> None:
        """Predicts and publishes, unless a restart came between."""
        with self._wake:
            # Before the window is read: a sensor that is told to be DISABLED has no tokens in this prediction.
            statuses = self._statuses(time.monotonic())
        prediction = self._recognizer.predict(stamp_ns)
        processing_s = time.perf_counter() - started
        now_s, clock_ns = time.monotonic(), self._clock()
        camera = self._sensors.get(CameraSensor.name)
        with self._wake:
            if epoch != self._epoch or not self._running:
                return
            # An extractor that fails in every run need not run for every prediction; of a sensor that is gone, it no
            # longer matters.
            for name in [n for n in self._broken if statuses[n].state is not SensorState.OK]:
                del self._broken[name]
            broken = next(iter(self._broken.values()), "")
            self._follow_coverage(stamp_ns, prediction, statuses)
            if prediction.status is Status.FAILED:
                self._failed("fusion", EngineError(prediction.error))
            elif broken:
                # A result from the other sensors would hide that this machine no longer does what it was set up for.
                prediction = replace(
                    prediction,
                    status=Status.FAILED,
                    actions=(),
                    verbs=(),
                    nouns=(),
                    logits={},
                    scores=None,
                    error=broken,
                )
            latency_s = max(0.0, now_s - due_s)
            since_stamp_s = (clock_ns - stamp_ns) * 1e-9
            # Where stamps and clock are not the same clock, the time since arrival is all that is known.
            if trigger == CAMERA and clock_ns > 0 and abs(since_stamp_s) < _FAR_S:
                latency_s = since_stamp_s
            self._counts["predictions"] += 1
            self._counts[f"status_{prediction.status.name.lower()}"] += 1
            self._counts["camera_triggered" if trigger == CAMERA else "timer_triggered"] += 1
            self._latencies.append(latency_s)
            outcome = Outcome(
                prediction=prediction,
                trigger=trigger,
                stamp_ns=stamp_ns - (camera.offset_ns if camera is not None else 0),
                frame_id=frame.header.frame_id if frame is not None else self._frame_id,
                statuses=statuses,
                latency_s=latency_s,
                processing_s=processing_s,
            )
        self._say()
        self._publish(outcome)

    def _follow_coverage(self, stamp_ns: int, prediction: Prediction, statuses: Mapping[str, SensorStatus]) -> None:
        since_ns = 0 if self._covered_ns is None else stamp_ns - self._covered_ns
        self._covered_ns = stamp_ns
        share = min(1.0, since_ns * 1e-9 / _COVERAGE_S)
        for name, coverage in prediction.coverages.items():
            before = self._coverages[name]
            live = statuses[name].state is SensorState.OK
            self._coverages[name] = before + share * (coverage - before) if live else 1.0

    def _statuses(self, now_s: float) -> dict[str, SensorStatus]:
        return {name: sensor.status(now_s) for name, sensor in self._sensors.items()}
