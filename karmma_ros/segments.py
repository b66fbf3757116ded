# SPDX-License-Identifier: Apache-2.0
"""How well segments match the truth: the segmental F1 of action segmentation (Lea et al., CVPR 2017), and delays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Segment", "SegmentScores", "score_segments", "segments_of_labels"]


@dataclass(frozen=True)
class Segment:
    """`label` from start_s (included) to stop_s (excluded); `decided_s`: when its start was known."""

    label: str
    start_s: float
    stop_s: float
    decided_s: float = 0.0


@dataclass(frozen=True)
class SegmentScores:
    """Counts that add up over recordings, and what follows from them."""

    found: int = 0  # segments said that match one of the truth
    said: int = 0
    true: int = 0
    false_starts: int = 0  # segments whose start was announced while their action was not going on
    latencies_s: tuple[float, ...] = ()  # from the true start to the decision, of those found
    duration_s: float = 0.0

    def __add__(self, other: SegmentScores) -> SegmentScores:
        return SegmentScores(
            self.found + other.found,
            self.said + other.said,
            self.true + other.true,
            self.false_starts + other.false_starts,
            self.latencies_s + other.latencies_s,
            self.duration_s + other.duration_s,
        )

    @property
    def f1(self) -> float:
        """2 found / (said + true); 1 when there is nothing to say and nothing is said."""
        return 2 * self.found / (self.said + self.true) if self.said + self.true else 1.0

    @property
    def false_starts_per_minute(self) -> float:
        return 60 * self.false_starts / self.duration_s if self.duration_s else 0.0


def score_segments(
    said: Sequence[Segment], true: Sequence[Segment], duration_s: float, *, overlap: float = 0.5
) -> SegmentScores:
    """Compares what was said with the truth.

    A segment is found when one of the same label covers it with at least `overlap` of their union; each of the truth is
    found once.

    :param duration_s: of the recording.
    """
    unfound = list(true)
    found, false_starts = 0, 0
    latencies_s: list[float] = []
    for segment in sorted(said, key=lambda s: s.start_s):
        alike = [t for t in unfound if t.label == segment.label]
        best = max(alike, key=lambda t: _overlap(segment, t), default=None)
        if best is not None and _overlap(segment, best) >= overlap:
            unfound.remove(best)
            found += 1
            latencies_s.append(segment.decided_s - best.start_s)
        false_starts += not any(t.label == segment.label and t.start_s <= segment.decided_s < t.stop_s for t in true)
    return SegmentScores(found, len(said), len(true), false_starts, tuple(latencies_s), duration_s)


def segments_of_labels(
    times_s: Sequence[float], labels: Iterable[str | None], idle: Sequence[str] = (), *, end_s: float
) -> list[Segment]:
    """Runs of one label in a plain stream, each decided when it begins.

    :param labels: one for each time; None and those in `idle` are no segment.
    :param end_s: where the last run stops.
    """
    segments: list[Segment] = []
    begin_s, current = 0.0, None
    for t_s, label in zip([*times_s, end_s], [*labels, None], strict=True):
        if label == current and t_s < end_s:
            continue
        if current is not None and current not in idle:
            segments.append(Segment(current, begin_s, t_s, begin_s))
        begin_s, current = t_s, label
    return segments


def _overlap(a: Segment, b: Segment) -> float:
    """Intersection over union."""
    both_s = max(0.0, min(a.stop_s, b.stop_s) - max(a.start_s, b.start_s))
    either_s = (a.stop_s - a.start_s) + (b.stop_s - b.start_s) - both_s
    return both_s / either_s if either_s > 0 else 0.0
