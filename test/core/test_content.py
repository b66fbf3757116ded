# SPDX-License-Identifier: Apache-2.0
"""What is in the samples: a covered or frozen camera, a muted microphone, a flow field of zeros or noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from karmma_ros.content import CameraGate, FlowGate, GateLimits, SoundGate, Verdict, flow_roughness, texture
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorState
from karmma_ros.media import read_audio, read_video
from karmma_ros.tabletop.failures import COVERS, FLOWS, SILENCES, cover, garbage_flow, silence
from karmma_ros.tabletop.sequence import make_sequence

Rgb = npt.NDArray[np.uint8]

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"
MS = 1_000_000
FRAME = 33 * MS
HEIGHT, WIDTH = 480, 640


def scenes(count: int, seed: int = 0) -> Iterator[Rgb]:
    """Frames of a rendered scene, 640x480."""
    yield from make_sequence(seed, "train", duration_s=count / 30, size=(WIDTH, HEIGHT)).frames()


def states(gate: CameraGate, frames: Iterator[Rgb] | list[Rgb], start: int = 0) -> list[Verdict]:
    return [gate.judge((start + i) * FRAME, frame) for i, frame in enumerate(frames)]


@pytest.mark.parametrize("kind", COVERS)
def test_a_covered_camera_is_occluded_within_a_quarter_of_a_second(kind: str) -> None:
    rng = np.random.default_rng(0)
    gate = CameraGate()
    assert {v.state for v in states(gate, scenes(10))} == {SensorState.OK}
    verdicts = states(gate, [cover(kind, (WIDTH, HEIGHT), rng) for _ in range(20)], start=10)
    first = next(i for i, v in enumerate(verdicts) if v.state is SensorState.OCCLUDED)
    assert first * FRAME <= 250 * MS
    assert first > 1, "one odd frame is no occlusion"
    assert all(v.state is SensorState.OCCLUDED and v.since_ns == 10 * FRAME for v in verdicts[first:])
    assert [v.fresh for v in verdicts[first:]] == [True] + [False] * (19 - first)


def test_an_occlusion_ends_after_a_fifth_of_a_second_of_pictures_and_not_with_the_first() -> None:
    gate = CameraGate()
    black = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 20
    states(gate, black)
    verdicts = [v.state for v in states(gate, scenes(12), start=20)]
    assert verdicts[0] is SensorState.OCCLUDED
    assert verdicts[-1] is SensorState.OK
    assert 5 <= verdicts.index(SensorState.OK) <= 8


def of_texture(frame: Rgb, wanted: float) -> Rgb:
    """A frame with its contrast changed until it has this texture."""
    mean = frame.mean((0, 1))
    return np.clip(mean + (frame - mean) * (wanted / texture(frame)), 0, 255).astype(np.uint8)


def test_an_occlusion_lasts_until_the_picture_is_a_quarter_beyond_the_threshold() -> None:
    threshold = GateLimits().occluded_texture
    between, beyond = ([of_texture(f, share * threshold) for f in scenes(10)] for share in (1.12, 1.4))
    assert all(threshold < texture(frame) < 1.25 * threshold for frame in between)
    assert all(texture(frame) > 1.25 * threshold for frame in beyond)
    assert {v.state for v in states(CameraGate(), between)} == {SensorState.OK}, "they do not begin one"
    gate = CameraGate()
    states(gate, [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 10)
    assert {v.state for v in states(gate, between, start=10)} == {SensorState.OCCLUDED}
    assert states(gate, beyond, start=20)[-1].state is SensorState.OK


def test_one_black_frame_says_nothing() -> None:
    gate = CameraGate()
    for i, frame in enumerate(scenes(40)):
        odd = i % 5 == 0
        assert gate.judge(i * FRAME, np.zeros_like(frame) if odd else frame).state is SensorState.OK


@pytest.mark.parametrize("seed", range(4))
def test_rendered_scenes_are_neither_occluded_nor_frozen(seed: int) -> None:
    assert {v.state for v in states(CameraGate(), scenes(30, seed))} == {SensorState.OK}


@pytest.mark.parametrize("mean", [None, 20, 8])
def test_real_clips_are_not_occluded_however_dim(mean: int | None) -> None:
    if not CLIPS.is_dir():
        pytest.skip("../shared/data/clips is not here")
    for clip in sorted(CLIPS.glob("*.mp4")):
        gate = CameraGate()
        with read_video(clip) as reader:
            for frame in reader:
                scale = 1.0 if mean is None else mean / float(frame.rgb.mean())
                rgb = np.clip(frame.rgb * scale, 0, 255).astype(np.uint8)
                assert gate.judge(frame.stamp_ns, rgb).state is SensorState.OK, f"{clip.stem} at {frame.stamp_ns}"


def test_a_frozen_camera_is_found_after_a_second_and_forgiven_when_it_moves() -> None:
    gate = CameraGate()
    frames = list(scenes(20))
    states(gate, frames)
    verdicts = states(gate, [frames[-1]] * 45, start=20)
    first = next(i for i, v in enumerate(verdicts) if v.state is SensorState.FROZEN)
    assert 1000 * MS <= first * FRAME <= 1100 * MS
    assert verdicts[first].since_ns == 20 * FRAME, "the first frame that repeated the one before"
    assert states(gate, frames, start=65)[-1].state is SensorState.OK


def test_a_camera_that_sends_every_picture_twice_is_not_frozen() -> None:
    gate = CameraGate()
    assert {v.state for v in states(gate, [f for f in scenes(30) for _ in range(2)])} == {SensorState.OK}


def test_every_gate_can_be_switched_off() -> None:
    limits = GateLimits(occluded=False, frozen=False, muted=False, garbage=False)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert {v.state for v in states(CameraGate(limits), [black] * 60)} == {SensorState.OK}
    flow, sound = FlowGate(limits), SoundGate(limits)
    noise = np.random.default_rng(0).normal(0, 30, (60, 80, 2)).astype(np.float32)
    for i in range(60):
        assert flow.judge(i * FRAME, noise).state is SensorState.OK
        assert sound.judge(i * FRAME, np.zeros(528, np.float32), 16000).state is SensorState.OK


def test_a_gate_switched_off_while_it_holds_lets_go_at_once() -> None:
    gate = CameraGate()
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert states(gate, [black] * 20)[-1].state is SensorState.OCCLUDED
    gate.limits = GateLimits(occluded=False, frozen=False)
    assert gate.judge(20 * FRAME, black).state is SensorState.OK


def test_a_late_picture_from_before_does_not_end_an_occlusion() -> None:
    gate = CameraGate()
    black, pictures = np.zeros((HEIGHT, WIDTH, 3), np.uint8), list(scenes(2))
    states(gate, [black] * 20)
    assert gate.judge(0, pictures[0]).state is SensorState.OCCLUDED
    assert gate.judge(20 * FRAME, pictures[1]).state is SensorState.OCCLUDED, "the first picture, not the second"


@pytest.mark.parametrize("size", [(1, 1), (24, 32), (7, 2000), (1080, 1920)])
def test_pictures_of_any_size_are_judged(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert np.isfinite(texture(rgb))
    assert texture(np.full_like(rgb, 90)) == 0.0


# --- sound


def chunks(samples: npt.NDArray[np.float32], length: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for begin in range(0, len(samples) - length + 1, length):
        yield begin * 10**9 // 16000, samples[begin : begin + length]


@pytest.mark.parametrize("length", [16, 160, 1600, 16000])
@pytest.mark.parametrize("kind", SILENCES)
def test_a_muted_microphone_is_found_whatever_the_chunks(kind: str, length: int) -> None:
    gate = SoundGate()
    samples = silence(kind, 16000, np.random.default_rng(0))
    verdicts = [(stamp, gate.judge(stamp, chunk, 16000)) for stamp, chunk in chunks(samples, length)]
    first = next(stamp for stamp, v in verdicts if v.state is SensorState.MUTED)
    assert first + length * 10**9 // 16000 >= 500 * MS
    assert first <= 500 * MS
    assert verdicts[-1][1].since_ns == 0


def test_one_live_channel_is_enough() -> None:
    gate = SoundGate()
    rng = np.random.default_rng(0)
    both = np.stack([np.zeros(1600), 0.01 * rng.normal(size=1600)], 1).astype(np.float32)
    assert {gate.judge(i * 100 * MS, both, 16000).state for i in range(20)} == {SensorState.OK}


def test_a_microphone_that_is_unmuted_is_heard_again() -> None:
    gate = SoundGate()
    for i in range(10):
        verdict = gate.judge(i * 100 * MS, np.zeros(1600, np.float32), 16000)
    assert verdict.state is SensorState.MUTED
    sound = 0.01 * np.random.default_rng(0).normal(size=1600).astype(np.float32)
    after = [gate.judge((10 + i) * 100 * MS, sound, 16000).state for i in range(3)]
    assert after == [SensorState.MUTED, SensorState.OK, SensorState.OK]


def test_silence_lasts_until_the_sound_is_a_quarter_beyond_the_threshold() -> None:
    quarter_s = np.resize(np.array([-1, 1], np.float32), 4000)
    between, beyond = (share * GateLimits().muted_level * quarter_s for share in (1.12, 1.4))

    def heard(gate: SoundGate, sound: npt.NDArray[np.float32], start: int = 0) -> list[SensorState]:
        return [gate.judge((start + i) * 250 * MS, sound, 16000).state for i in range(4)]

    assert set(heard(SoundGate(), between)) == {SensorState.OK}, "it does not begin one"
    gate = SoundGate()
    assert heard(gate, 0 * between)[-1] is SensorState.MUTED
    assert set(heard(gate, between, start=4)) == {SensorState.MUTED}
    assert heard(gate, beyond, start=8)[-1] is SensorState.OK


@pytest.mark.parametrize("length_s", [0.002, 0.02, 0.1])
def test_real_clips_and_rendered_rooms_are_quiet_but_not_muted(length_s: float) -> None:
    rooms = [(make_sequence(seed, "train", duration_s=3.0).sound(), 16000) for seed in range(3)]
    for clip in sorted(CLIPS.glob("*.mp4")) if CLIPS.is_dir() else []:
        with read_audio(clip) as reader:  # type: ignore[union-attr]
            rooms.append((np.concatenate([chunk.samples for chunk in reader]), reader.rate))
    for samples, rate in rooms:
        gate, length = SoundGate(), round(length_s * rate)
        for begin in range(0, len(samples), length):
            assert gate.judge(begin * 10**9 // rate, samples[begin : begin + length], rate).state is SensorState.OK


# --- flow


@pytest.mark.parametrize("kind", FLOWS)
def test_flow_that_no_motion_makes_is_found(kind: str) -> None:
    rng, gate = np.random.default_rng(0), FlowGate()
    verdicts = [gate.judge(i * FRAME, garbage_flow(kind, (160, 120), rng)) for i in range(40)]
    assert verdicts[-1].state is (SensorState.FROZEN if kind == "zeros" else SensorState.CORRUPT)
    assert verdicts[-1].since_ns == (FRAME if kind == "zeros" else 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [0.001, 1e37])
def test_noise_is_noise_at_any_scale(scale: float) -> None:
    rng, gate = np.random.default_rng(0), FlowGate()
    for i in range(10):
        verdict = gate.judge(i * FRAME, (scale * rng.normal(size=(120, 160, 2))).astype(np.float32))
    assert verdict.state is SensorState.CORRUPT


def rough(roughness: float) -> npt.NDArray[np.float32]:
    """A field of mean speed 1 that changes by `roughness` from each vector to the next, as if it were noise."""
    board = np.indices((60, 80)).sum(0) % 2
    return np.repeat((1 + roughness * (board - 0.5))[..., None], 2, axis=2).astype(np.float32)


def fast(speed: float) -> npt.NDArray[np.float32]:
    """A field of one mean speed, which varies a little."""
    return np.repeat(np.linspace(0.9 * speed, 1.1 * speed, 60 * 80).reshape(60, 80, 1), 2, axis=2).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "threshold"), [(rough, GateLimits().garbage_roughness), (fast, GateLimits().garbage_speed)]
)
def test_garbage_lasts_until_the_flow_is_a_quarter_within_the_threshold(
    make: Callable[[float], npt.NDArray[np.float32]], threshold: float
) -> None:
    garbage, between, within = (make(share * threshold) for share in (1.1, 0.9, 0.7))

    def shown(gate: FlowGate, flow: npt.NDArray[np.float32], start: int = 0) -> list[SensorState]:
        # Hardly another field each time: the same one again and again would be FROZEN.
        return [gate.judge((start + i) * FRAME, flow + np.float32(1e-4 * i)).state for i in range(10)]

    assert set(shown(FlowGate(), between)) == {SensorState.OK}, "it does not begin one"
    gate = FlowGate()
    assert shown(gate, garbage)[-1] is SensorState.CORRUPT
    assert set(shown(gate, between, start=10)) == {SensorState.CORRUPT}
    assert shown(gate, within, start=20)[-1] is SensorState.OK


def test_computed_flow_is_neither_even_of_a_still_noisy_picture() -> None:
    rng = np.random.default_rng(0)
    still = next(scenes(1)).astype(np.float64)
    noisy = [np.clip(still + rng.normal(0, 3.0, still.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    for frames in (noisy, list(scenes(40, seed=1))):
        producer, gate = FlowProducer((160, 120)), FlowGate()
        for i, frame in enumerate(frames):
            flow = producer.push(i * FRAME, cv2.resize(frame, (320, 240)))
            if flow is not None:
                assert gate.judge(i * FRAME, flow).state is SensorState.OK
                assert flow_roughness(flow)[1] < 0.4
