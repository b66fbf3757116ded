# SPDX-License-Identifier: Apache-2.0
"""Batches come in order whatever the number of threads, errors where they belong, and nothing goes on afterwards."""

from __future__ import annotations

import threading

import pytest

from karmma_training.data.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_come_in_order(threads: int) -> None:
    gates = [threading.Event() for _ in range(8)]

    def make(number: int) -> int:
        if threads > 1 and number % 4:  # the first of every four is made last
            gates[number].set()
        elif threads > 1:
            assert all(gate.wait(10) for gate in gates[number + 1 : number + 4])
        return number

    assert list(prefetch(make, 0, 8, threads=threads)) == list(range(8))
    assert list(prefetch(make, 0, 0, threads=threads)) == []


def test_several_are_made_at_once() -> None:
    together = threading.Barrier(3)

    def make(number: int) -> int:
        together.wait(10)
        return number

    assert list(prefetch(make, 0, 6, threads=3)) == list(range(6))


def test_an_error_is_raised_at_its_place_and_ends_the_threads() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("damaged")
        return number

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(prefetch(make, 0, 50, threads=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_no_more_is_made_than_will_soon_be_used() -> None:
    made: list[int] = []
    batches = prefetch(lambda number: made.append(number), 0, 100, threads=2, depth=3)
    next(batches)
    batches.close()
    assert len(made) <= 1 + 2 - 1 + 3
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
