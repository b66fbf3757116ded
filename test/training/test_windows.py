# SPDX-License-Identifier: Apache-2.0
"""Training windows are the windows the robot sees."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.bundle import load_bundle  # noqa: E402
from karmma_ros.errors import MediaError  # noqa: E402
from karmma_ros.flow import FlowProducer  # noqa: E402
from karmma_ros.recognizer import Prediction, Recognizer  # noqa: E402
from karmma_ros.tabletop.sequence import make_sequence  # noqa: E402
from karmma_training.checkpoint import load_model  # noqa: E402
from karmma_training.config import AugmentConfig, Config, DropoutConfig, SensorsConfig  # noqa: E402
from karmma_training.data.prefetch import prefetch  # noqa: E402
from karmma_training.data.windows import WindowSampler  # noqa: E402
from karmma_training.evaluation.bundle_predictor import BundlePredictor  # noqa: E402
from karmma_training.evaluation.evaluate import encode_recording, predict  # noqa: E402
from karmma_training.networks.model import TensorBatch  # noqa: E402

if TYPE_CHECKING:
    from fixtures.training import TinyRun


def plain(config: Config) -> Config:
    """Everything on, nothing drawn but the time."""
    config = copy.deepcopy(config)
    config.dropout = DropoutConfig(modality_p=0, runs_p=0, full_share=1)
    config.sensors = SensorsConfig(
        rate_divisors=[1], rate_weights=[1.0], jitter_s=0, loss_p=0, audio_phase=False, audio_lag_s=0, snap_p=1
    )
    config.augment = AugmentConfig(
        brightness=0, contrast=0, colour=0, permute_p=0, mirror_p=0, shift=0, scale=0, gain_db=0, noise_p=0, noise_max=0
    )
    return config


def on_a_robot(tiny_run: TinyRun, config: Config, times_ns: Iterable[int]) -> Iterator[Prediction]:
    """What the recogniser says at ascending times, to which frames, flow and sound of the first validation sequence go
    one by one."""
    data = config.data
    size = (data.render_width, data.render_height)
    sequence = make_sequence(0, "val", duration_s=data.recording_s, size=size, fps=data.fps)
    frames, sound = sequence.frames(), sequence.sound()
    producer = FlowProducer((config.flow.producer_width, config.flow.producer_height), config.flow.producer_preset)
    robot = Recognizer(tiny_run.bundle, providers="cpu")
    frame = heard = 0
    for t_ns in map(int, times_ns):
        while round(frame * 1e9 / data.fps) <= t_ns:
            stamp, image = round(frame * 1e9 / data.fps), next(frames)
            robot.push("video", stamp, image)
            if (field := producer.push(stamp, image)) is not None:
                robot.push("flow", stamp, field)
            frame += 1
        until = t_ns * config.audio.rate // 10**9
        while heard < until:
            chunk = sound[heard : min(heard + 512, until)]
            robot.push("audio", round(heard * 1e9 / config.audio.rate), chunk)
            heard += len(chunk)
        yield robot.predict(t_ns)


def test_a_training_window_gives_the_logits_the_robot_computes_online(tiny_run: TinyRun) -> None:
    config = plain(tiny_run.config)
    batch = WindowSampler(tiny_run.validation[:1], config, batch=6, seed=9).batch(0)
    student, *_ = load_model(tiny_run.run)
    with torch.no_grad():
        (wanted,) = student(TensorBatch.of(batch))
    rows = np.argsort(batch.origin[:, 1])
    for row, prediction in zip(rows, on_a_robot(tiny_run, config, batch.origin[rows, 1]), strict=True):
        for m, coverage in prediction.coverages.items():
            assert coverage == batch.present[m][row].mean(), f"{m}: the same slots are filled"
        for head, logits in prediction.logits.items():
            # stored flow is float16: the only difference
            np.testing.assert_allclose(logits, wanted[head][row].numpy(), atol=2e-2)
    assert min(present.mean() for present in batch.present.values()) > 0.5, "the windows were not nearly empty"


def test_what_is_evaluated_is_what_the_robot_says_online(tiny_run: TinyRun) -> None:
    predictor = BundlePredictor(load_bundle(tiny_run.bundle), 1)
    encoded = encode_recording(predictor, tiny_run.validation[0], every=7)
    evaluated = predict(predictor, encoded, {m: np.arange(len(stamps)) for m, stamps in encoded.stamps.items()})
    assert len(encoded.times_ns) > 20
    online = on_a_robot(tiny_run, tiny_run.config, encoded.times_ns)
    for number, prediction in enumerate(online):
        for head, logits in prediction.logits.items():
            np.testing.assert_allclose(logits, evaluated[head][number], atol=2e-2)


def test_labels_are_the_truth_at_t(tiny_run: TinyRun) -> None:
    data = tiny_run.config.data
    batch = WindowSampler(tiny_run.train[:3], tiny_run.config, batch=64, seed=1).batch(3)
    verbs, nouns = tiny_run.labels.heads["verb"], tiny_run.labels.heads["noun"]
    for (number, t_ns), (verb, noun) in zip(batch.origin, batch.targets, strict=True):
        sequence = make_sequence(int(number), "train", duration_s=data.recording_s, size=(160, 120), fps=data.fps)
        assert sequence.action_at(t_ns / 1e9) == (verbs[verb], nouns[noun])


def test_a_window_that_cannot_be_read_is_drawn_elsewhere(tiny_run: TinyRun, caplog: pytest.LogCaptureFixture) -> None:
    whole = tiny_run.train[0]
    holed = copy.copy(whole)
    asked: list[int] = []

    def read(modality: str, which: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if modality == "video" and (which >= 90).any():
            raise MediaError("scene: a hole in the file")
        asked.extend(which if modality == "video" else ())
        return whole.read(modality, which)

    holed.read = read  # type: ignore[method-assign]
    batch = WindowSampler([holed], tiny_run.config, batch=64, seed=1).batch(0)
    assert len(batch.targets) == 64
    assert asked
    assert len(batch.samples["video"]) == batch.present["video"].sum()
    assert caplog.text.count("a hole in the file: no window is drawn there") == 1, "one warning a recording"
    again = WindowSampler([holed], tiny_run.config, batch=64, seed=1).batch(0)
    np.testing.assert_array_equal(batch.origin, again.origin)
    unharmed = WindowSampler([whole], tiny_run.config, batch=64, seed=1).batch(0)
    moved = (batch.origin != unharmed.origin).any(1)
    assert 0 < moved.sum() < 64, "the other windows are the same"


def test_no_sample_is_from_the_future_and_places_match_presence(tiny_run: TinyRun) -> None:
    batch = WindowSampler(tiny_run.train, tiny_run.config, batch=128, seed=2).batch(0)
    for m, present in batch.present.items():
        assert len(batch.samples[m]) == len(batch.places[m]) == present.sum()
        assert (np.sort(batch.places[m]) == np.flatnonzero(present)).all()
    early = batch.origin[:, 1] < 5e8
    assert early.any(), "t is uniform from the start of a recording"
    first_slots = {m: c.slots for m in batch.present if (c := tiny_run.config.slots(m))}
    for m, slots in first_slots.items():
        assert not batch.present[m][early][:, slots // 2 :].any(), "nothing from before the start"


def test_times_are_uniform_over_the_labelled_time(tiny_run: TinyRun) -> None:
    sampler = WindowSampler(tiny_run.train, plain(tiny_run.config), batch=400, seed=3)
    rng = np.random.default_rng(0)
    windows = [sampler._draw(rng, turn) for turn in range(4000)]
    drawn = [(w.number, w.t_ns) for w in windows]
    shares = np.array([t / 1e9 / tiny_run.train[k].labelled_s for k, t in drawn])
    assert np.abs(np.histogram(shares, 10, (0, 1))[0] / 4000 - 0.1).max() < 0.025
    counts = np.bincount([k for k, _ in drawn], minlength=len(tiny_run.train)) / 4000
    assert np.abs(counts - 1 / len(tiny_run.train)).max() < 0.02


def test_sensors_vary_in_rate_and_losses(tiny_run: TinyRun) -> None:
    recording = tiny_run.train[0]
    sampler = WindowSampler([recording], tiny_run.config, batch=8, seed=0)
    rng = np.random.default_rng(0)
    gaps = [np.diff(sampler._camera(recording, int(5e9), rng)) for _ in range(200)]
    steady = {int(g[0]) for g in gaps if (g == g[0]).all()}
    assert steady >= {1, 2, 3}, "30, 15 and 10 frames per second occur"
    assert any((g != g[0]).any() for g in gaps), "frames get lost"
    phases = {int(sampler._camera(recording, int(5e9), rng)[0]) for _ in range(100)}
    assert len(phases) >= 3


def test_a_batch_depends_on_seed_and_step_alone(tiny_run: TinyRun) -> None:
    sampler = WindowSampler(tiny_run.train, tiny_run.config, batch=8, seed=7)
    again = list(prefetch(WindowSampler(tiny_run.train, tiny_run.config, batch=8, seed=7).batch, 3, 2))
    for step, batch in zip((3, 4), again, strict=True):
        for m, samples in sampler.batch(step).samples.items():
            np.testing.assert_array_equal(samples, batch.samples[m])
    part = sampler.batch(3, range(1, 8, 2))  # a process's share of the batch
    np.testing.assert_array_equal(part.origin, again[0].origin[1::2])
    for m, present in part.present.items():
        np.testing.assert_array_equal(present, again[0].present[m][1::2])
    other = WindowSampler(tiny_run.train, tiny_run.config, batch=8, seed=8).batch(3)
    assert not np.array_equal(other.origin, again[0].origin)


def test_an_error_while_drawing_reaches_the_trainer(tiny_run: TinyRun) -> None:
    sampler = WindowSampler(tiny_run.train, tiny_run.config, batch=2, seed=0)

    def fail(step: int) -> None:
        raise RuntimeError("disk gone")

    sampler.batch = fail  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="disk gone"):
        next(iter(prefetch(sampler.batch, 0, 3)))


@pytest.mark.parametrize(("setting", "value"), [("modality_p", 0.6), ("runs_p", 0.9), ("full_share", 0.0)])
def test_whatever_is_dropped_is_drawn_for_the_windows(tiny_run: TinyRun, setting: str, value: float) -> None:
    def share(config: Config) -> float:
        present = WindowSampler(tiny_run.train, config, batch=64, seed=5).batch(0).present
        return float(np.mean([present[m].mean() for m in present]))

    dropping = plain(tiny_run.config)
    setattr(dropping.dropout, setting, value)
    assert share(dropping) < 0.9 * share(plain(tiny_run.config))
