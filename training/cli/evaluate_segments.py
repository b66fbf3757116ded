# SPDX-License-Identifier: Apache-2.0
"""`karmma evaluate --segments`: one prediction per annotated action.

karmma evaluate runs/epic --segments --split val --clips 10 --crops 3
karmma evaluate runs/epic --segments --split test --submission epic.zip --sls 2 3 3
karmma evaluate runs/ssv2 --segments --split test --submission ssv2.csv
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from rich.console import Console

from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_ros.files import write_json
from karmma_training.data.recording import Recording
from karmma_training.datasets.epic_kitchens.challenge import (
    challenge_scores,
    check_levels,
    read_lists,
    write_submission,
)
from karmma_training.datasets.epic_kitchens.source import EpicKitchensSource
from karmma_training.datasets.predicted import check_predicted
from karmma_training.datasets.something_something.source import HEAD, SomethingSomethingSource
from karmma_training.datasets.something_something.submission import write_predictions
from karmma_training.datasets.source import Source
from karmma_training.evaluation.plots import plot_segments
from karmma_training.evaluation.predictor import Predictor
from karmma_training.evaluation.segment_report import evaluate_segments, print_segments
from karmma_training.evaluation.segments import SegmentLogits, predict_segments

__all__ = ["add_segment_arguments", "check_segment_arguments", "run_segments"]


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for annotated actions."""
    group = parser.add_argument_group("annotated actions, one prediction each, as data sets of trimmed clips count")
    group.add_argument("--segments", action="store_true", help="predict these instead of a stream")
    group.add_argument("--clips", type=int, default=1, metavar="N", help="times per action (default 1)")
    group.add_argument("--crops", type=int, default=1, metavar="N", help="parts of the image, from left to right")
    group.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        help="write predictions instead of a report: the challenge's zip (epic-kitchens-100), "
        "ID and five classes a line (something-something-v2)",
    )
    group.add_argument(
        "--sls", type=int, nargs=3, metavar=("PT", "TL", "TD"), help="the zip's supervision levels, 0 to 5 each"
    )


def check_segment_arguments(args: argparse.Namespace) -> None:
    """Refuse what makes no sense.

    :raises UsageError: it does not.
    """
    if args.clips < 1 or args.crops < 1:
        raise UsageError("--clips and --crops must be positive")
    if args.submission and not args.segments:
        raise UsageError("--submission needs --segments")
    if args.submission and args.submission.suffix == ".zip":  # before a data set is looked through
        _check_sls(args)
    check_levels(args.sls or ())


def _check_sls(args: argparse.Namespace) -> None:
    if args.sls is None:
        raise UsageError("--submission needs --sls PT TL TD: the supervision levels of the challenge, 0 to 5 each")


def run_segments(
    args: argparse.Namespace,
    folder: Path,
    predictor: Predictor,
    source: Source,
    recordings: list[Recording],
    head: dict[str, Any],
) -> int:
    """One prediction per annotated action: a report, or a challenge's archive.

    :param folder: of the model; head: how the report begins.
    """
    console = make_console(stderr=True)
    challenge = source if isinstance(source, EpicKitchensSource) else None
    if args.submission:
        _submit(args, predictor, source, recordings, console)
        return 0
    unlabelled = any((recording.targets < 0).any() for recording in recordings)
    if unlabelled and isinstance(source, SomethingSomethingSource) and args.split == "test":
        raise UsageError(
            f"{source.name} test: its actions have no labels here: put test-answers.csv beside its test.json, choose "
            "--split val, or write predictions with --submission FILE.csv"
        )
    lists = None if challenge is None else read_lists(challenge.annotations)  # before hours of predictions
    report, predictions = evaluate_segments(
        predictor, recordings, clips=args.clips, crops=args.crops, seed=args.seed, console=console
    )
    if challenge is not None and lists is not None:
        full = next(iter(predictions.values()))
        known = {s.narration_id: s for s in challenge.segments(args.split)}
        report["challenge"] = challenge_scores([known[name] for name in full.ids], full.logits, lists)
        report["annotated"] = len(known)  # beside "actions": those whose files are here
    path = args.json or (args.out or folder) / "evaluation-segments.json"
    report = head | report
    write_json(path, _without_nan(report))
    plot_segments(report, path.with_suffix(".png"))
    print_segments(make_console(), report, predictor.labels)
    console.print(f"written: {path}", soft_wrap=True)
    return 0


def _submit(
    args: argparse.Namespace, predictor: Predictor, source: Source, recordings: list[Recording], console: Console
) -> None:
    """Write the predictions as the data set's own evaluation takes them."""
    there = [name for r in recordings for name in r.ids]

    def predict() -> SegmentLogits:
        made = predict_segments(predictor, recordings, clips=args.clips, crops=args.crops, console=console)
        return next(iter(made.values()))  # of all modalities

    if isinstance(source, EpicKitchensSource):
        _check_sls(args)
        segments = source.segments(args.split)
        check_predicted([s.narration_id for s in segments], there, "actions")
        made = predict()
        write_submission(args.submission, segments, made.ids, made.logits, tuple(args.sls))
    elif isinstance(source, SomethingSomethingSource):
        videos = [c.video for c in source.clips(args.split)]
        check_predicted(videos, there, "videos", ".webm")
        made = predict()
        write_predictions(args.submission, videos, made.ids, made.logits[HEAD])
    else:
        raise UsageError("--submission is for --data epic-kitchens-100:FOLDER and something-something-v2:FOLDER")
    console.print(f"written: {args.submission}", soft_wrap=True)


def _without_nan(tree: Any) -> Any:
    """JSON knows no NaN: null instead, where there was nothing to count."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
