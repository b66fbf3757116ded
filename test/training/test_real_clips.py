# SPDX-License-Identifier: Apache-2.0
"""Real footage through a manifest: four clips, the first 60 % of each to train, the last 40 % to test.

Recognition within the same clip: it shows that decoding, flow, sound and training work on real data, and nothing about
other kitchens.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main
from karmma_ros.media import read_video

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"


def write_manifest(path: Path) -> None:
    rows = ["clip_id,split,video,flow,audio,start_s,stop_s,verb,noun"]
    for clip in sorted(CLIPS.glob("*.mp4")):
        with read_video(clip) as reader:
            stop_s = [frame.stamp_ns for frame in reader][-1] / 1e9
        file, (verb, noun) = os.path.relpath(clip, path.parent), clip.stem.split("_")
        for split, first, last in (("train", 0.0, 0.6), ("val", 0.6, 1.0), ("test", 0.6, 1.0)):
            start, stop = first * stop_s, last * stop_s
            rows.append(f"{clip.stem}-{split},{split},{file},,{file},{start:.3f},{stop:.3f},{verb},{noun}")
    path.write_text("\n".join(rows) + "\n")


def test_the_action_of_real_clips_is_named_from_every_modality_subset(tmp_path: Path) -> None:
    if not CLIPS.is_dir():
        pytest.skip("../shared/data/clips is not here")
    write_manifest(tmp_path / "clips.csv")
    settings = ["train.windows_per_second=60", "train.epochs=8", "train.validate_every=8", "train.validate_step=2"]
    settings += ["pretrain.video=20", "pretrain.flow=20", "pretrain.audio=20", "pretrain.batch=32"]
    options = ["--store", str(tmp_path / "store")]
    run = str(tmp_path / "run")
    sets = [part for setting in settings for part in ("--set", setting)]
    command = ["train", "--preset", "tiny", "--system", "baseline-dropout", "--data", str(tmp_path / "clips.csv")]
    assert main([*command, "--out", run, *options, *sets]) == 0
    assert main(["evaluate", run, "--every", "1", "--threads", "1", *options]) == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["windows"] > 100
    assert len(report["subsets"]) == 7
    for name, scores in report["subsets"].items():
        assert scores["action"] > 1.5 * report["majority_share"], f"{name}: not well above always naming one clip"
    for picture in ("evaluation.png", "evaluation-confusion.png"):
        assert (tmp_path / "run" / picture).stat().st_size > 10_000
