# SPDX-License-Identifier: Apache-2.0
"""From labelled bags to a bundle that recognises the next one: every command of docs/teach.md, at a small size.

Not asserted: how well it does after a few seconds of training; that is for docs/teach.md.
"""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.bags.session import plan_session, record_scene, write_intervals
from karmma_ros.bundle import load_bundle
from karmma_ros.cli.main import main
from karmma_ros.records import read_records
from karmma_ros.synthesis import Row
from karmma_ros.tabletop.sequence import make_sequence

TAKES, SECONDS = 3, 8.0
SETTINGS = ("train.windows_per_second=6", "pretrain.video=4", "pretrain.flow=2", "pretrain.audio=4", "train.epochs=3")
SETTINGS += ("pretrain.batch=32", "train.validate_every=3", "train.validate_step=1", "train.batch=16")


def record(folder: Path) -> list[Path]:
    """A session of a few short takes, small pictures; flow in none but the last."""
    rows = []
    jobs = plan_session(1, TAKES, SECONDS / 60)
    for number, job in enumerate(jobs):
        scene = make_sequence(job.seed, job.split, duration_s=SECONDS, size=(160, 120), take=job.take)
        record_scene(folder / job.name, scene, flow_size=(48, 36) if number == TAKES - 1 else None)
        rows += [
            Row(job.name, "", job.name, round(i.start_s, 6), round(i.stop_s, 6), i.verb, i.noun)
            for i in scene.intervals
        ]
    write_intervals(folder / "intervals.csv", rows)
    return [folder / job.name for job in jobs]


@pytest.mark.clock
def test_bags_become_a_bundle_that_replays_them_and_that_a_robot_runs(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bags = record(tmp_path / "session")
    labels = str(tmp_path / "session" / "intervals.csv")
    for bag in bags:
        assert main(["record-check", str(bag)]) == 0
    taught = [str(bag) for bag in bags]
    data = tmp_path / "mine"
    assert main(["bag-to-manifest", *taught, "--labels", labels, "--out", str(data), "--split", "time"]) == 0
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["flow"]) for row in rows] == [row["clip_id"].startswith("take-02") for row in rows]
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    store = ["--store", str(tmp_path / "store")]
    command = ["train", "--preset", "tiny", "--system", "baseline-dropout", "--data", str(data)]
    assert main([*command, "--out", str(tmp_path / "run"), *store, *sets]) == 0
    bundle = tmp_path / "bundle"
    assert main(["export", str(tmp_path / "run"), "--out", str(bundle)]) == 0
    assert load_bundle(bundle).licence == "not stated", "whose recordings these are, we do not know"
    out = tmp_path / "replay"
    options = ["--bundle", str(bundle), "--truth", labels, "--out", str(out), "--no-overlay"]
    assert main(["replay", str(bags[-1]), *options]) == 0
    records = list(read_records(out / "predictions.jsonl"))
    assert {record.bundle for record in records} == {"bundle"}
    assert {record.status for record in records} == {"OK"}
    named = {(row["verb"], row["noun"]) for row in rows if row["split"] == "train"}
    known = {verb if noun == "none" else f"{verb} {noun}" for verb, noun in named}
    assert {label.name for record in records for label in record.actions} <= known
    summary = json.loads((out / "summary.json").read_text())
    assert np.isfinite(summary["overall"]["accuracy"])
    assert summary["truth"]["scored"] == len(records)
    assert all(summary["overall"]["coverage"][name] > 0.7 for name in ("video", "flow", "audio"))
    if find_spec("rclpy") is not None:
        assert named_by_a_node(bundle, tmp_path / "log", request.getfixturevalue("ros_env")) <= known


def named_by_a_node(bundle: Path, log: Path, ros_env: dict[str, str]) -> set[str]:
    """The actions that the node with this bundle names when it has all sensors."""
    from node.harness import node_and_robot

    with node_and_robot(log, ros_env, bundle=bundle) as (_, r):
        played = r.play(1.0)
        last = r.heard(played.start_s, played.end_s)[-1]
    assert last.message.status == last.message.OK
    assert last.message.bundle == "bundle"
    assert {last.state(name) for name in ("video", "flow", "audio")} == {"OK"}
    return {label.name for label in last.message.actions}
