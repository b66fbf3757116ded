# SPDX-License-Identifier: Apache-2.0
"""Resampling, and audio on the sample clock."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karmma_ros.audio import AudioInput, AudioRing
from karmma_ros.decode_audio import audio_to_chunk
from karmma_ros.errors import SampleError
from karmma_ros.resample import _design
from karmma_ros.samples import Resampler

Float32Array = npt.NDArray[np.float32]

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
PAIRS = [(44_100, 16_000), (48_000, 16_000), (24_000, 16_000), (8_000, 16_000), (22_050, 16_000)]
ODD = [(16_001, 16_000), (44_056, 16_000), (15_999, 16_000), (192_001, 16_000)]  # thousands of positions


def tone(frequency: float, rate: int, seconds: float = 1.0, phase: float = 0.3) -> Float32Array:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate + phase).astype(np.float32)


def convert(resampler: Resampler, samples: Float32Array) -> Float32Array:
    return np.concatenate([resampler.process(samples), resampler.flush()])


def middle(samples: Float32Array) -> Float32Array:
    """Without the ends, where silence begins."""
    return samples[len(samples) // 5 : -len(samples) // 5]


@pytest.mark.parametrize(("source", "target"), PAIRS + ODD)
@pytest.mark.parametrize("frequency", [50.0, 1_000.0, 3_300.0])
def test_a_tone_keeps_amplitude_and_phase(source: int, target: int, frequency: float) -> None:
    # Equal to the same tone sampled at the target rate: the first samples of both have the same stamp.
    result = convert(Resampler(source, target), tone(frequency, source))
    assert len(result) == target
    assert np.abs(middle(result) - middle(tone(frequency, target))).max() < 1e-3


@pytest.mark.parametrize("source", [44_100, 48_000, 24_000, 44_056, 192_001])
@pytest.mark.parametrize("frequency", [8_050.0, 9_000.0, 11_000.0])
def test_tones_above_the_new_nyquist_frequency_are_rejected_by_60_db(source: int, frequency: float) -> None:
    result = middle(convert(Resampler(source, 16_000), tone(frequency, source)))
    assert 20 * np.log10(np.abs(result).max()) < -60


def test_images_of_a_tone_are_rejected_by_60_db_when_the_rate_rises() -> None:
    result = middle(convert(Resampler(8_000, 16_000), tone(3_000, 8_000)))
    spectrum = np.abs(np.fft.rfft(result * np.hanning(len(result))))
    frequency = np.fft.rfftfreq(len(result), 1 / 16_000)
    assert 20 * np.log10(spectrum[frequency > 4_100].max() / spectrum.max()) < -60


@settings(max_examples=40, deadline=None)
@given(pair=st.sampled_from(PAIRS + ODD), cuts=st.lists(st.integers(0, 3_000), max_size=12))
def test_where_the_chunks_are_cut_does_not_show(pair: tuple[int, int], cuts: list[int]) -> None:
    samples = np.random.default_rng(0).standard_normal(3_000).astype(np.float32)
    whole = convert(Resampler(*pair), samples)
    resampler = Resampler(*pair)
    parts = [resampler.process(part) for part in np.split(samples, sorted(cuts))]
    pieces = np.concatenate([*parts, resampler.flush()])
    assert pieces.tolist() == whole.tolist()
    assert len(whole) == -(-3_000 * pair[1] // pair[0])


def test_the_output_lags_by_the_lookahead_and_no_more() -> None:
    resampler = Resampler(48_000, 16_000)
    assert resampler.lookahead == 144  # 3 ms
    assert len(resampler.process(np.zeros(144, np.float32))) == 0
    assert len(resampler.process(np.zeros(1, np.float32))) == 1
    assert resampler.given == 1


def test_a_reset_and_a_flush_start_a_new_stream() -> None:
    samples = tone(443, 44_100, 0.1)
    resampler = Resampler(44_100, 16_000)
    first = convert(resampler, samples)
    resampler.process(samples)
    resampler.reset()
    assert convert(resampler, samples).tolist() == first.tolist()


def test_equal_rates_pass_through() -> None:
    samples = tone(443, 16_000, 0.1)
    resampler = Resampler(16_000, 16_000)
    assert resampler.process(samples).tolist() == samples.tolist()
    assert len(resampler.flush()) == 0


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, -1), (16_000_001, 16_000), (15, 16_000), (2**31 - 1, 1)])
def test_rates_that_cannot_be_converted_are_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(SampleError, match="rate"):
        Resampler(*rates)


@settings(max_examples=40, deadline=None)
@given(source=st.integers(1_000, 768_000), target=st.sampled_from([8_000, 16_000, 44_100]))
def test_the_filters_of_any_two_rates_are_small(source: int, target: int) -> None:
    assert Resampler(source, target)._filters.nbytes <= 1_500_000


def test_filters_are_designed_once_while_a_source_alternates_between_rates_and_repeats_itself() -> None:
    _design.cache_clear()
    audio = AudioInput(16_000, 2.0)
    for k in range(20):
        rate = 16_001 if k % 2 else 15_999
        for _ in range(2):  # the second is late: it lies before the newest sample
            audio.push(T0 + k * 20 * MS, tone(443, rate, 0.02), rate)
    assert _design.cache_info().misses == 2


def test_long_chunks_at_a_high_rate_take_no_more_memory_than_they_have_to() -> None:
    samples = np.zeros(768_000, np.float32)
    resampler = Resampler(768_000, 16_000)
    tracemalloc.start()
    try:
        resampler.process(samples)
        assert tracemalloc.get_traced_memory()[1] < 3 * 8 * len(samples)
    finally:
        tracemalloc.stop()


def test_more_samples_than_any_microphone_sends_at_once_are_refused_before_they_are_copied() -> None:
    def message(frames: int) -> SimpleNamespace:
        info = SimpleNamespace(format=8, channels=64, rate=768_000)
        data = SimpleNamespace(int16_data=np.zeros(64 * frames, np.int16))
        return SimpleNamespace(audio=SimpleNamespace(audio_data=data, info=info))

    assert audio_to_chunk(message(65_536))[0].shape == (65_536, 64)
    large = message(65_537)  # 85 ms
    tracemalloc.start()
    try:
        with pytest.raises(SampleError, match="audio chunk is too large: 4194368 samples, at most 4194304"):
            audio_to_chunk(large)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def read(ring: AudioRing, end_ns: int | None, n: int) -> list[float]:
    """The n samples that end there, which must all be held."""
    assert end_ns is not None
    samples = ring.read(end_ns, n)
    assert samples is not None
    return samples.tolist()


def ramp(begin: int, count: int) -> Float32Array:
    """Samples that carry their own index."""
    return np.arange(begin, begin + count, dtype=np.float32)


def test_audio_is_read_by_the_time_of_its_end() -> None:
    ring = AudioRing(1_000, 2.0)
    assert ring.latest_ns is None
    assert ring.read(T0, 10) is None
    assert ring.push(T0, ramp(0, 100)) == 100
    assert ring.latest_ns == T0 + 100 * MS
    assert read(ring, T0 + 100 * MS, 3) == [97, 98, 99]
    assert read(ring, T0 + 10 * MS, 10) == ramp(0, 10).tolist()
    assert ring.read(T0 + 10 * MS, 11) is None  # before the start
    assert ring.read(T0 + 101 * MS, 3) is None  # not yet there
    # To the nearest sample.
    assert read(ring, T0 + 50 * MS + 499_999, 1) == [49]
    assert read(ring, T0 + 50 * MS + 500_001, 1) == [50]


def test_chunks_with_jittering_stamps_join_seamlessly() -> None:
    rng = np.random.default_rng(0)
    ring = AudioRing(16_000, 2.0)
    for k in range(200):
        ring.push(T0 + k * 20 * MS + int(rng.integers(-15 * MS, 15 * MS)), ramp(k * 320, 320))
    assert ring.latest_ns is not None
    end = ring.latest_ns
    assert end == pytest.approx(T0 + 4_000 * MS, abs=8 * MS)
    assert read(ring, end, 16_000) == ramp(64_000 - 16_000, 16_000).tolist()


def test_the_sample_clock_follows_a_crystal_that_is_off() -> None:
    ring = AudioRing(16_000, 2.0)
    interval_ns = 20 * MS * 1.0002  # the source's second is 200 ppm long
    for k in range(15_000):  # five minutes: 60 ms of drift, three times what would be a gap
        assert ring.push(T0 + round(k * interval_ns), np.zeros(320, np.float32)) == 320
    assert ring.latest_ns == pytest.approx(T0 + 15_000 * interval_ns, abs=1 * MS)
    assert ring.read(ring.latest_ns or 0, 16_000) is not None


def test_exact_stamps_are_kept_exactly() -> None:
    ring = AudioRing(16_000, 2.0)
    for k in range(5_000):
        ring.push(T0 + k * 533 * 10**9 // 16_000, np.zeros(533, np.float32))
    assert ring.latest_ns == pytest.approx(T0 + 5_000 * 533 * 10**9 // 16_000, abs=2)


def test_what_spans_a_gap_cannot_be_read() -> None:
    ring = AudioRing(1_000, 2.0)
    ring.push(T0, ramp(0, 100))
    ring.push(T0 + 150 * MS, ramp(150, 100))
    assert ring.latest_ns == T0 + 250 * MS
    assert read(ring, T0 + 250 * MS, 100) == ramp(150, 100).tolist()
    assert read(ring, T0 + 100 * MS, 100) == ramp(0, 100).tolist()
    assert ring.read(T0 + 250 * MS, 101) is None
    assert ring.read(T0 + 101 * MS, 10) is None


def test_a_chunk_starting_20_ms_late_is_a_gap_and_less_is_not() -> None:
    for late_ms, joined in ((19, True), (20, False)):
        ring = AudioRing(1_000, 2.0)
        ring.push(T0, ramp(0, 100))
        ring.push(T0 + (100 + late_ms) * MS, ramp(100, 100))
        assert (ring.read(ring.latest_ns or 0, 150) is not None) is joined


def test_a_late_chunk_fills_its_gap() -> None:
    ring = AudioRing(1_000, 2.0)
    for begin in (0, 100, 300, 200):
        assert ring.push(T0 + begin * MS, ramp(begin, 100)) == 100
    assert read(ring, T0 + 400 * MS, 400) == ramp(0, 400).tolist()


def test_duplicates_are_dropped_and_what_is_new_is_kept() -> None:
    ring = AudioRing(1_000, 2.0)
    ring.push(T0, ramp(0, 100))
    assert ring.push(T0, ramp(500, 100)) == 0
    assert ring.push(T0 + 50 * MS, ramp(50, 100)) == 50
    assert read(ring, T0 + 150 * MS, 150) == ramp(0, 150).tolist()


def test_a_chunk_older_than_the_ring_is_refused() -> None:
    ring = AudioRing(1_000, 1.0)
    ring.push(T0, ramp(0, 100))
    with pytest.raises(SampleError, match="too old"):
        ring.push(T0 - 1_500 * MS, ramp(0, 100))
    assert ring.latest_ns == T0 + 100 * MS


def test_a_leap_ahead_starts_afresh_exactly_at_the_new_stamp() -> None:
    ring = AudioRing(1_000, 1.0)
    ring.push(T0, ramp(0, 100))
    ring.push(T0 + 3_600 * 10**9 + 123, ramp(7, 50))
    assert ring.latest_ns == T0 + 3_600 * 10**9 + 123 + 50 * MS
    assert read(ring, ring.latest_ns, 50) == ramp(7, 50).tolist()
    assert ring.read(ring.latest_ns, 51) is None


def test_a_chunk_longer_than_the_ring_leaves_its_end() -> None:
    ring = AudioRing(1_000, 1.0)
    assert ring.push(T0, ramp(0, 5_300)) == 1_000
    assert read(ring, T0 + 5_300 * MS, 1_000) == ramp(4_300, 1_000).tolist()


def test_a_chunk_that_begins_before_the_ring_fills_what_the_ring_still_holds() -> None:
    ring = AudioRing(1_000, 1.0)
    ring.push(T0 + 1_250 * MS, ramp(1_250, 50))
    assert ring.push(T0 + 200 * MS, ramp(200, 200)) == 100
    assert read(ring, T0 + 400 * MS, 100) == ramp(300, 100).tolist()


def test_any_chunks_with_losses_read_back_as_sent_or_not_at_all() -> None:
    rng = np.random.default_rng(4)
    ring = AudioRing(1_000, 0.7)
    sent = np.zeros(20_000, dtype=bool)
    position = 0
    while position < 19_000:
        count = int(rng.integers(25, 120))
        if rng.random() < 0.7:
            ring.push(T0 + position * MS, ramp(position, count))
            sent[position : position + count] = True
            end = position + count
            for n in (1, 50, 300, 650):
                heard = ring.read(T0 + end * MS, n)
                assert (heard is not None) == (n <= end and bool(sent[end - n : end].all()))
                if heard is not None:
                    assert heard.tolist() == ramp(end - n, n).tolist()
        position += count


def test_clearing_overwrites_the_memory_of_the_ring() -> None:
    ring = AudioRing(1_000, 1.0)
    ring.push(T0, ramp(1, 900))
    ring.clear()
    assert not ring._samples.any()
    assert ring.latest_ns is None
    ring.push(T0 - 10**12, ramp(1, 10))
    assert ring.latest_ns == T0 - 10**12 + 10 * MS


def chunks(samples: Float32Array, rate: int, size: int) -> list[tuple[int, Float32Array]]:
    return [(T0 + i * 10**9 // rate, samples[i : i + size]) for i in range(0, len(samples), size)]


@pytest.mark.parametrize("source", [8_000, 24_000, 44_100, 48_000])
def test_audio_at_any_rate_lands_where_it_belongs_in_time(source: int) -> None:
    audio = AudioInput(16_000, 2.0)
    for stamp, chunk in chunks(tone(443, source, 1.5), source, source // 50):
        audio.push(stamp, np.stack([chunk, chunk], axis=1), source)
    assert audio.latest_ns == pytest.approx(T0 + 1_500 * MS, abs=7 * MS)  # the resampler's lookahead is still owed
    heard = audio.ring.read(T0 + 1_250 * MS, 16_000)
    assert heard is not None
    assert np.abs(heard - tone(443, 16_000, 1.25)[-16_000:]).max() < 1e-3


def test_the_resampler_starts_afresh_at_a_gap() -> None:
    source = 48_000
    samples = tone(443, source, 1.0)
    audio = AudioInput(16_000, 2.0)
    for stamp, chunk in chunks(samples, source, 960):
        if not T0 + 300 * MS <= stamp < T0 + 500 * MS:
            audio.push(stamp, chunk, source)
    expected = tone(443, 16_000, 1.0)
    before, after = audio.ring.read(T0 + 300 * MS, 4_800), audio.ring.read(T0 + 990 * MS, 7_840)
    assert before is not None
    assert after is not None
    assert np.abs(before[200:-200] - expected[200:4_600]).max() < 1e-3
    assert np.abs(after[200:] - expected[8_200:15_840]).max() < 1e-3
    assert audio.ring.read(T0 + 400 * MS, 1_600) is None
    assert audio.ring.read(T0 + 310 * MS, 1_600) is None


def test_overlaps_of_resampled_audio_are_cut_and_late_chunks_fill() -> None:
    source = 48_000
    samples = tone(443, source, 1.0)
    audio = AudioInput(16_000, 2.0)
    parts = chunks(samples, source, 4_800)  # 100 ms each
    for index in (0, 1, 2, 2, 4, 3, 5, 6, 7, 8, 9):
        audio.push(parts[index][0], parts[index][1], source)
    audio.push(T0 + 900 * MS, samples[43_200:], source)  # all known
    heard = audio.ring.read(T0 + 990 * MS, 15_840)
    assert heard is not None
    error = np.abs(heard - tone(443, 16_000, 1.0)[:15_840])
    edges = np.array([300, 400, 500]) * 16  # the resampler could not see past them
    near = (np.abs(np.arange(15_840)[:, np.newaxis] - edges) < 100).any(axis=1)
    assert error[~near][100:].max() < 1e-3


def test_a_partial_overlap_of_resampled_audio_is_seamless() -> None:
    source = 48_000
    samples = tone(443, source, 1.0)
    audio = AudioInput(16_000, 2.0)
    audio.push(T0, samples[:24_000], source)
    audio.push(T0 + 400 * MS, samples[19_200:], source)
    heard = audio.ring.read(T0 + 990 * MS, 15_000)
    assert heard is not None
    assert np.abs(heard - tone(443, 16_000, 1.0)[840:15_840]).max() < 1e-3


def test_the_source_may_change_its_rate() -> None:
    audio = AudioInput(16_000, 3.0)
    start = T0
    for rate in (48_000, 16_000, 44_100):
        for k in range(10):
            begin = k * rate // 20
            audio.push(start + k * 50 * MS, tone(443, rate, 0.5)[begin : begin + rate // 20], rate)
        start += 500 * MS
    for k in range(3):
        heard = audio.ring.read(T0 + (k * 500 + 490) * MS, 7_000)
        assert heard is not None
        assert np.abs(heard[:-100] - tone(443, 16_000, 0.5)[840:7_740]).max() < 2e-3


def test_a_rate_that_cannot_be_converted_changes_nothing() -> None:
    audio = AudioInput(16_000, 2.0)
    audio.push(T0, tone(443, 48_000, 0.5), 48_000)
    for rate in (0, -5, 16_000_001):
        with pytest.raises(SampleError):
            audio.push(T0 + 500 * MS, tone(443, 48_000, 0.1), rate)
    audio.push(T0 + 500 * MS, tone(443, 48_000, 0.5), 48_000)
    assert audio.ring.read(T0 + 990 * MS, 15_840) is not None


def test_clearing_forgets_the_resampler_too() -> None:
    audio = AudioInput(16_000, 2.0)
    audio.push(T0, tone(443, 48_000, 0.5), 48_000)
    audio.clear()
    audio.push(T0 + 500 * MS, np.zeros(4_800, np.float32), 48_000)
    heard = audio.ring.read(T0 + 590 * MS, 1_440)
    assert heard is not None
    assert not heard.any()
