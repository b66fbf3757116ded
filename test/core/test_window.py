# SPDX-License-Identifier: Apache-2.0
"""Slots: which token stands for which moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karmma_ros.window import SlotSpec, TokenWindow, assign_slots, to_ns

T0 = 1_700_000_000_000_000_000  # an epoch time: nanoseconds that no float64 holds exactly
MS = 1_000_000


def spec(slots: int = 3, spacing_s: float = 0.1, delay_s: float = 0.0) -> SlotSpec:
    return SlotSpec(slots, spacing_s, delay_s, tokens=1, dim=1)


def assign(stamps: list[int], t_ns: int, slot_spec: SlotSpec) -> list[int]:
    return assign_slots(np.array(stamps, dtype=np.int64), t_ns, slot_spec).tolist()


def reference(stamps: list[int], t_ns: int, slot_spec: SlotSpec) -> list[int]:
    """The definition, sample by sample."""
    result = []
    for k in range(slot_spec.slots):
        centre = t_ns - slot_spec.delay_ns - k * slot_spec.spacing_ns
        best = -1
        for i, stamp in enumerate(stamps):
            if stamp > t_ns or not -slot_spec.spacing_ns < 2 * (stamp - centre) <= slot_spec.spacing_ns:
                continue
            if best >= 0:
                new, old = abs(stamp - centre), abs(stamps[best] - centre)
                if new > old:  # of equally near ones the later in order wins, which is the newer or the last pushed
                    continue
            best = i
        result.append(best)
    return result


@settings(max_examples=500, deadline=None)
@given(
    offsets=st.lists(st.integers(-60, 20), max_size=30),
    slots=st.integers(1, 8),
    spacing=st.integers(1, 12),
    delay=st.integers(0, 15),
    origin=st.sampled_from([0, T0]),
)
def test_slots_are_those_of_the_definition(
    offsets: list[int], slots: int, spacing: int, delay: int, origin: int
) -> None:
    slot_spec = SlotSpec(slots, spacing * 1e-9, delay * 1e-9, 1, 1)
    stamps = sorted(origin + offset for offset in offsets)
    assert assign(stamps, origin, slot_spec) == reference(stamps, origin, slot_spec)


def test_the_newer_edge_of_a_slot_is_closed_and_the_older_one_open() -> None:
    edge = T0 - 50 * MS  # between slot 0 and slot 1
    assert assign([edge], T0, spec()) == [-1, 0, -1]
    assert assign([edge + 1], T0, spec()) == [0, -1, -1]
    assert assign([T0 - 250 * MS], T0, spec()) == [-1, -1, -1]
    assert assign([T0 - 250 * MS + 1], T0, spec()) == [-1, -1, 0]


def test_the_nearest_sample_wins_and_of_two_equally_near_the_newer() -> None:
    centre = T0 - 100 * MS
    assert assign([centre - 20 * MS, centre + 10 * MS], T0, spec())[1] == 1
    assert assign([centre - 10 * MS, centre + 20 * MS], T0, spec())[1] == 0
    assert assign([centre - 10 * MS, centre + 10 * MS], T0, spec())[1] == 1


def test_the_last_of_samples_with_one_stamp_wins() -> None:
    assert assign([T0, T0, T0], T0, spec()) == [2, -1, -1]
    assert assign([T0 - 90 * MS] * 2, T0, spec()) == [-1, 1, -1]


def test_a_sample_newer_than_the_prediction_is_never_used() -> None:
    assert assign([T0 + 1], T0, spec()) == [-1, -1, -1]
    # Nearer to the centre than the old one, but not known yet at t.
    assert assign([T0 - 40 * MS, T0 + 1], T0, spec()) == [0, -1, -1]
    # With a delay the newer half of slot 0 is past, and counts.
    assert assign([T0 - 90 * MS, T0 - 1], T0, spec(delay_s=0.04)) == [1, 0, -1]


def test_the_delay_moves_all_slots_back() -> None:
    stamps = [T0 - 300 * MS, T0 - 200 * MS, T0 - 100 * MS, T0]
    assert assign(stamps, T0, spec(delay_s=0.1)) == [2, 1, 0]


def test_no_samples_fill_no_slots() -> None:
    assert assign([], T0, spec()) == [-1, -1, -1]


def test_many_times_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    stamps = np.sort(T0 + rng.integers(0, 10**10, 200))
    times = T0 + rng.integers(0, 10**10, (4, 5))
    slot_spec = spec(slots=6)
    together = assign_slots(stamps, times, slot_spec)
    assert together.shape == (4, 5, 6)
    for index in np.ndindex(4, 5):
        assert together[index].tolist() == assign_slots(stamps, int(times[index]), slot_spec).tolist()


def test_a_jittering_camera_at_the_slots_rate_fills_its_slots() -> None:
    rng = np.random.default_rng(1)
    slot_spec = spec(slots=60, spacing_s=1 / 30)
    stamps = T0 + (np.arange(600) * 1e9 / 30).astype(np.int64) + rng.integers(-3 * MS, 3 * MS, 600)
    filled = [np.mean(assign_slots(stamps, int(t), slot_spec) >= 0) for t in stamps[60:]]
    assert np.mean(filled) >= 0.98


def window(**limits: float) -> TokenWindow:
    specs = {"video": SlotSpec(4, 0.1, 0.0, tokens=2, dim=3), "audio": SlotSpec(2, 0.2, 0.1, tokens=1, dim=2)}
    return TokenWindow(specs, **limits)  # type: ignore[arg-type]


def token(value: float, shape: tuple[int, int] = (2, 3)) -> npt.NDArray[np.float32]:
    return np.full(shape, value, dtype=np.float32)


def values(held: TokenWindow, t_ns: int = T0) -> list[float]:
    """First number of every video slot."""
    return held.read(t_ns).tokens["video"][::2, 0].tolist()


def test_tokens_of_a_slot_lie_together_newest_slot_first() -> None:
    held = window()
    held.push("video", T0 - 100 * MS, np.arange(6, dtype=np.float32).reshape(2, 3))
    held.push("video", T0, 10 + np.arange(6, dtype=np.float32).reshape(2, 3))
    view = held.read(T0)
    assert view.tokens["video"].shape == (8, 3)
    assert view.tokens["video"][:4].ravel().tolist() == [10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5]
    assert view.present["video"].tolist() == [True] * 4 + [False] * 4
    assert view.coverages == {"video": 0.5, "audio": 0.0}
    assert view.coverage == pytest.approx(2 / 6)
    assert not view.empty


def test_an_empty_window_is_empty() -> None:
    view = window().read(T0)
    assert view.empty
    assert view.coverage == 0.0
    assert not view.present["video"].any()
    assert not view.tokens["audio"].any()


def test_order_of_arrival_does_not_matter() -> None:
    stamps = [T0 - k * 100 * MS for k in range(4)]
    ordered, shuffled = window(), window()
    for k in (3, 2, 1, 0):
        ordered.push("video", stamps[k], token(k + 1))
    for k in (1, 3, 0, 2):
        shuffled.push("video", stamps[k], token(k + 1))
    assert values(shuffled) == values(ordered) == [1, 2, 3, 4]


def test_a_token_with_the_same_stamp_replaces() -> None:
    held = window()
    for value in (1, 2):
        held.push("video", T0 - 100 * MS, token(value))
        held.push("video", T0, token(value + 10))
    assert values(held)[:2] == [12, 2]
    assert len(held.stamps("video")) == 2


def test_a_read_is_not_changed_by_later_pushes() -> None:
    held = window()
    held.push("video", T0, token(1))
    view = held.read(T0)
    held.push("video", T0, token(2))
    held.clear()
    assert view.tokens["video"][0, 0] == 1


def test_evicted_tokens_are_gone_and_earlier_ones_stay() -> None:
    held = window()
    for k in range(4):
        held.push("video", T0 - k * 100 * MS, token(k + 1))
    assert held.evict("video", T0 - 100 * MS) == 2
    assert values(held) == [0, 0, 3, 4]
    held.push("video", T0, token(9))
    assert values(held) == [9, 0, 3, 4]


def test_clearing_overwrites_the_memory() -> None:
    held = window()
    for k in range(500):
        held.push("video", T0 + k * 10 * MS, token(7))
        held.push("audio", T0 + k * 10 * MS, token(7, (1, 2)))
    series = held._series["video"]
    assert series._tokens.any()
    held.clear("video")
    assert not series._tokens.any()
    assert not series._stamps.any()
    assert held.read(T0 + 4990 * MS).coverages["audio"] == 1.0
    held.clear()
    assert held.read(T0 + 4990 * MS).empty
    held.push("video", T0 - 10**15, token(1))  # nothing remembers the later stamps
    assert values(held, T0 - 10**15)[0] == 1


def test_evicted_tokens_are_overwritten_too() -> None:
    held = window()
    held.push("video", T0, token(7))
    held.evict("video", T0)
    assert not held._series["video"]._tokens.any()


def test_tokens_too_old_to_matter_are_refused() -> None:
    held = window(slack_s=0.5)
    held.push("video", T0, token(1))
    assert not held.push("video", T0 - 900 * MS, token(2))
    assert held.push("video", T0 - 899 * MS, token(2))


def test_memory_is_bounded_and_the_window_right_for_any_rate_order_and_length() -> None:
    held = window(slack_s=0.2)
    series = held._series["video"]
    memory = series._tokens.nbytes
    rng = np.random.default_rng(2)
    arrived: dict[int, float] = {}
    newest = T0
    for step in range(3000):
        newest += int(rng.integers(5, 40)) * MS
        stamp = newest - (int(rng.integers(0, 500)) * MS if rng.random() < 0.3 else 0)
        arrived[stamp] = step
        held.push("video", stamp, token(step))
        newest = max(arrived) if step == 0 else max(newest, stamp)
        if step % 50 == 0:
            stamps = sorted(arrived)
            rows = reference(stamps, newest, held.specs["video"])
            assert values(held, newest) == [arrived[stamps[row]] if row >= 0 else 0 for row in rows]
    assert series._tokens.nbytes == memory
    assert (np.diff(held.stamps("video")) > 0).all()


def test_a_flood_keeps_the_newest() -> None:
    held = window()
    for k in range(10_000):
        held.push("video", T0 + k, token(k))
    assert len(held.stamps("video")) < 200
    assert values(held, T0 + 9_999)[0] == 9_999


def test_tokens_of_the_wrong_shape_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="shape"):
        window().push("video", T0, token(1, (3, 2)))
    with pytest.raises(KeyError):
        window().push("smell", T0, token(1))


@pytest.mark.parametrize("bad", [{"slots": 0}, {"spacing_s": 0.0}, {"delay_s": -0.1}])
def test_a_slot_spec_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        spec(**bad)  # type: ignore[arg-type]


def test_seconds_are_rounded_to_nanoseconds() -> None:
    assert to_ns(1 / 30) == 33_333_333
    assert to_ns(2 / 3) == 666_666_667
