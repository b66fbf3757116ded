# SPDX-License-Identifier: Apache-2.0
"""`karmma bench`: what it writes and that it is about the right thing; never how long something took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from toy_bundle import make_toy_bundle

from karmma_benchmarks import cost, providers
from karmma_benchmarks.choices import bound
from karmma_benchmarks.dds import NODE, STAGES, USUAL, core_s, judge, measure, node_parameters
from karmma_benchmarks.feed import Feed
from karmma_benchmarks.settings import Report, Settings
from karmma_benchmarks.ways import Again, Streaming
from karmma_ros.bundle import load_bundle
from karmma_ros.cli.bench import BENCHMARKS
from karmma_ros.cli.main import main
from karmma_ros.errors import KarmmaError
from karmma_ros.inference.session import open_session
from karmma_ros.processes import ProcessDiedError, node_arguments
from karmma_ros.recognizer import Recognizer
from karmma_ros.runtime import FUSION, Engine

SUBSETS = {
    "video+flow+audio",
    "video+flow",
    "video+audio",
    "flow+audio",
    "video",
    "flow",
    "audio",
}


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of `karmma bench --quick`, by benchmark, and what it said."""
    pytest.importorskip("rclpy", reason="ROS 2 is not here")
    pytest.importorskip("torch", reason="the ways in PyTorch are part of it")
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "karmma_ros.cli.main", "bench", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{kind}" for name in BENCHMARKS for kind in ("json", "md", "png")
    )
    results = {name: json.loads((out / f"{name}.json").read_text()) for name in BENCHMARKS}
    for name, result in results.items():
        assert (out / f"{name}.png").stat().st_size > 10_000
        assert (out / f"{name}.md").read_text().count("\n|") > 2
        assert result["machine"]["cores"] >= 1
        assert result["quick"] is True
    return results


def positive(values: Iterable[float]) -> bool:
    return all(value > 0 for value in values)


@pytest.mark.clock
def test_cost_and_replay_quickly(quick: dict[str, Any]) -> None:
    cost = quick["cost"]
    assert len(cost["ways_ms"]) == 3
    assert set(cost["sensors_ms"]) == SUBSETS
    assert positive(cost["ways_ms"].values())
    assert positive(cost["sensors_ms"].values())
    assert [row["window_s"] for row in cost["windows"]] == [2.0, 4.0]
    assert positive(cost["parts_ms"].values())
    assert {"video: extractor", "flow: extractor", "audio: extractor", "fusion"} < set(cost["parts_ms"])
    assert len(cost["skipped"]) == 1, "the clip student takes too long for a quick run"
    bags = quick["replay"]["bags"]
    assert len(bags) == 4
    assert {row["predictions"] for row in bags.values()} == {90}, "3 s at 30 Hz"


@pytest.mark.clock
def test_decode_quickly(quick: dict[str, Any]) -> None:
    decode = quick["decode"]
    assert len(decode["clips_per_s"]) == 4
    for files, row in decode["clips_per_s"].items():
        assert positive(row.values()), files
    assert decode["grown_mb"] < 200, "a clip read is a clip forgotten"


@pytest.mark.clock
def test_precision_quickly(quick: dict[str, Any]) -> None:
    found = quick["precision"]
    rows = found["variants"]
    assert list(rows) == ["FP32", "FP16", "INT8"]
    assert set(rows["INT8"]["precisions"].values()) == {"int8"}
    assert rows["INT8"]["megabytes"] < rows["FP16"]["megabytes"] < rows["FP32"]["megabytes"]
    for row in rows.values():
        assert set(row["subsets"]) == SUBSETS
        assert row["mean"] == pytest.approx(sum(row["subsets"].values()) / len(SUBSETS))
        assert row["frame_ms"] > 0
        assert set(row["graphs_ms"]) == {"video", "flow", "audio", FUSION}
        assert positive(row["graphs_ms"].values())
    assert abs(rows["FP16"]["mean"] - rows["FP32"]["mean"]) < 0.05
    assert found["fastest_within_half_a_point"] in rows


@pytest.mark.clock
def test_providers_quickly(quick: dict[str, Any]) -> None:
    rows = {(row["provider"], row["precision"]): row for row in quick["providers"]["by_provider"]}
    assert {("cpu", "as exported"), ("cpu", "FP32"), ("cpu", "FP16")} <= set(rows)
    for row in rows.values():
        assert set(row["graphs_ms"]) == {"video", "flow", "audio", FUSION}
        assert positive(row["graphs_ms"].values())
        assert row["frame_ms"] > 0
        assert row["again_ms"] > 0
    assert rows["cpu", "FP32"]["off_by"] < 1e-5 < rows["cpu", "as exported"]["off_by"] < 0.5
    assert 1e-5 < rows["cpu", "FP16"]["off_by"] < 0.1, "rounded, and no more than that"


@pytest.mark.clock
def test_dds_quickly(quick: dict[str, Any]) -> None:
    (row,) = quick["dds"]["cameras"]
    assert row["camera"] == "640x480 rgb8 at 30 Hz"
    echo = quick["dds"]["echo"]
    assert 0 < echo["latency_ms"]["p50"] < row["latency_ms"]["p50"], "it computes nothing"
    for stages in (row["stages_ms"], echo["stages_ms"]):
        assert list(stages) == list(STAGES)
        assert all(stages[stage]["p50"] >= 0 for stage in STAGES)
    assert 30 < row["frames"] <= 150, "those since the first answer"
    assert row["lost"] <= 0.1 * row["frames"]
    assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["max"]
    assert row["core_ms"]["p50"] < row["latency_ms"]["max"]
    assert 0 < row["node_cpu_share"] < 4
    assert 20 < row["node_resident_mb"] < 2000
    assert 0 < row["start_to_prediction_s"] < 60


@pytest.mark.clock
def test_choices_quickly(quick: dict[str, Any]) -> None:
    choices = quick["choices"]
    assert set(choices["nodes"]) == {"single executor, 1 thread", "events executor, 1 thread"}
    for row in choices["nodes"].values():
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert 0 < row["node_cpu_share"] < 4
    assert len(choices["runs_ms"]) == 8, "four graphs, two ways"
    assert set(choices["extractors_ms"]) == {"in turn", "at the same time"}
    assert set(choices["openings_ms"]) == {"as they are", "optimised ahead of time"}
    for measured in ("runs_ms", "extractors_ms", "openings_ms"):
        assert positive(choices[measured].values())


@pytest.mark.clock
def test_a_node_that_dies_ends_the_measurement() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not here")
    settings = Settings(load_bundle("tabletop"), threads=1, quick=True, console=Console())
    with pytest.raises(ProcessDiedError, match=r"the node died \(exit status 1\): no bundle today"):
        measure(settings, USUAL, 5.0, [0.001], ["-c", "raise SystemExit('no bundle today')"])


@pytest.mark.clock
def test_a_bundle_need_not_know_every_sensor(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not here")
    settings = Settings(load_bundle(make_toy_bundle(tmp_path / "eye", modalities=["video"])), 1, True, Console())
    node = node_arguments(NODE, node_parameters(settings, USUAL))
    row = measure(settings, USUAL, 3.0, core_s(settings, USUAL, 1.0), node)
    assert 0 < row["frames"] <= 90


def test_without_torch_its_rows_are_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = cost.find_spec
    monkeypatch.setattr(cost, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    assert main(["bench", "cost", "--quick", "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for row in (cost.TORCH, cost.CLIP, cost.OTHER_WINDOWS):
        assert f"{row}: needs torch (training extra)" in said
    measured = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert set(measured["ways_ms"]) == {cost.STREAMING, cost.AGAIN}


@pytest.mark.parametrize(
    ("name", "modalities", "reason"),
    [("dds", ["audio"], "takes video"), ("choices", ["flow"], "takes video"), ("cost", ["detections"], "detections")],
)
def test_what_a_bundle_is_not_fit_for_is_said(
    name: str, modalities: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_toy_bundle(tmp_path / "toy", modalities=modalities)
    assert main(["bench", name, "--bundle", str(bundle), "--out", str(tmp_path / "out")]) == 0
    assert f"not measured: {name}" in (said := capsys.readouterr().out)
    assert reason in said


def test_what_cannot_be_measured_here_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("karmma_ros.cli.bench.find_spec", lambda name: None)
    monkeypatch.setattr("karmma_ros.cli.bench.BENCHMARKS", {"decode": "", "dds": "", "nothing": ""})
    ran: list[str] = []
    modules = SimpleNamespace(run=lambda settings: ran.append("nothing") or Report({}, []))
    monkeypatch.setattr("karmma_ros.cli.bench.importlib", SimpleNamespace(import_module=lambda name: modules))
    assert main(["bench", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "not measured: decode needs torch: install the training extra" in said
    assert "not measured: dds needs rclpy: source a ROS 2 installation" in said
    assert ran == ["nothing"]
    assert main(["bench", "decode", "--out", str(tmp_path)]) == 2
    assert "decode needs torch" in capsys.readouterr().err


def test_only_a_preset_can_be_built_again_in_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the ways in PyTorch are")
    from karmma_benchmarks.torch_ways import is_of_its_preset, untrained_bundle

    shipped = load_bundle("tabletop")
    assert is_of_its_preset(shipped)
    other = untrained_bundle(shipped, 1.0, tmp_path)
    assert (other.window_s, other.precisions) == (1.0, shipped.precisions), "windows are compared in one precision"
    assert not is_of_its_preset(load_bundle(make_toy_bundle(tmp_path / "toy")))
    assert not is_of_its_preset(load_bundle(make_toy_bundle(tmp_path / "eye", modalities=["video"])))


@pytest.mark.full
def test_the_clip_student_predicts() -> None:
    if find_spec("torchvision") is None:  # imported by networks/torchvision_import.py alone
        pytest.skip("its backbone is torchvision's")
    from karmma_benchmarks.torch_ways import ClipStudent

    bundle = load_bundle("tabletop")
    student = ClipStudent(Feed(bundle, seconds=0.2), bundle)
    student.take(0)
    student.predict(0)


@pytest.mark.parametrize("graph", ["video", "flow", "audio", FUSION])
def test_a_graph_on_bound_buffers_says_the_same(graph: str) -> None:
    session = open_session(load_bundle("tabletop"), graph, ("cpu",), 1)
    rng = np.random.default_rng(0)
    feed = {}
    for node in session.get_inputs():
        values = rng.integers(0, 255, (1, *node.shape[1:]))
        kinds = {"tensor(uint8)": np.uint8, "tensor(bool)": np.bool_, "tensor(float)": np.float32}
        feed[node.name] = values.astype(kinds[node.type])
    outputs = [node.name for node in session.get_outputs()]
    step = bound(session, outputs, {name: np.zeros_like(value) for name, value in feed.items()})
    for name, value in zip(outputs, step(feed), strict=True):
        np.testing.assert_array_equal(value, session.run([name], feed)[0])


def test_losses_and_latencies_are_counted_by_stamp() -> None:
    ms = 1_000_000
    sent = {"stamps": [0, 100 * ms, 200 * ms, 300 * ms, 400 * ms], "took_s": [0.0005] * 5, "late_s": 0.001}
    heard = [
        [100 * ms, 104 * ms, 0, 0.002, 0.003],
        [200 * ms, 206 * ms, 0, 0.002, 0.003],
        [300 * ms, 301 * ms, 1, 0.002, 0.003],  # of the timer: no answer to a frame
        [400 * ms, 408 * ms, 0, 0.002, 0.003],
    ]
    row = judge(sent, heard, [0.001, 0.001, 0.001])
    assert (row["frames"], row["lost"]) == (4, 1), "what was sent before the first answer does not count"
    assert row["latency_ms"]["p50"] == pytest.approx(6.0)
    assert row["latency_ms"]["max"] == pytest.approx(8.0)
    assert row["overhead_p50_ms"] == pytest.approx(5.0)
    assert [row["stages_ms"][stage]["p50"] for stage in STAGES] == pytest.approx([0.5, 0.5, 2.0, 3.0])
    with pytest.raises(KarmmaError, match="no frame was answered"):
        judge(sent, [], [0.001])


def test_all_ways_see_the_same_window() -> None:
    """Streaming, and encoding again what the window holds, give the same logits."""
    bundle = load_bundle("tabletop")
    feed = Feed(bundle, seconds=1.0, size=(160, 120))
    recognizer, engine = Recognizer(bundle, providers="cpu"), Engine(bundle, "cpu")
    streaming, again = Streaming(feed, recognizer, bundle.modalities), Again(feed, engine)
    last = 90
    for index in range(last + 1):
        streaming.take(index)
        again.take(index)
    said = recognizer.predict(feed.at(last).stamp_ns)
    assert said.coverage == 1.0
    logits: dict[str, Any] = {}
    fuse = engine.fuse

    def keep(*args: Any) -> Any:
        logits.update(fuse(*args))
        return logits

    engine.fuse = keep  # type: ignore[method-assign]
    engine.runs.clear()
    again.predict(last)
    assert engine.runs == {"video": 1, "flow": 1, "audio": 1, FUSION: 1}, "a batch of each, and no more"
    for head, values in said.logits.items():
        # Slots are a whole number of frames apart here; sound is on the grid in one and at the frame in the other.
        assert np.argmax(values) == np.argmax(logits[head][0])
        assert np.corrcoef(values, logits[head][0])[0, 1] > 0.98


@pytest.mark.parametrize("problem", ["no onnx", "refused"])
def test_providers_are_measured_where_fp16_cannot_be(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if problem == "refused":
        pytest.importorskip("torch", reason="the conversion is part of the training packages")

        def refuse(folder: Path, *rest: Any) -> None:
            (folder / "fusion.onnx").write_bytes(b"not a graph")
            load_bundle(folder)

        monkeypatch.setattr("karmma_training.bundle.precision.reduce_bundle", refuse)
    else:
        monkeypatch.setattr("karmma_benchmarks.providers.find_spec", lambda name: None)
    bundle = load_bundle(make_toy_bundle(tmp_path / "toy", modalities=["video"]))
    report = providers.run(Settings(bundle, 1, True, Console(quiet=True)))
    assert {row["precision"] for row in report.data["by_provider"]} == {"as exported"}
    assert {"no onnx": "needs torch", "refused": "SHA-256"}[problem] in report.skipped["FP16"]


def test_an_unknown_benchmark_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "speed", "--out", str(tmp_path)]) == 2
    assert "choose from choices, cost, dds, decode, precision, providers, replay" in capsys.readouterr().err
