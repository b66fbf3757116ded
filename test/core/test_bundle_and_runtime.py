# SPDX-License-Identifier: Apache-2.0
"""A bundle loads when it is whole and right, and is refused with one clear line when it is not."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import MANIFEST, find_bundle, load_bundle, write_manifest
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.inference.graph_file import has_external_data
from karmma_ros.runtime import FUSION, Engine, check_inputs


@pytest.fixture
def bundle(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle to damage."""
    return Path(shutil.copytree(toy, tmp_path / "bundle"))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text())


def write(folder: Path, manifest: Any) -> None:
    """Writes without the checks of write_manifest."""
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace_graph(folder: Path, name: str, data: bytes) -> None:
    """Puts another graph in a graph's place, with a hash that fits."""
    manifest = read(folder)
    entry = manifest["fusion"] if name == "fusion" else manifest["modalities"][name]
    (folder / entry["graph"]).write_bytes(data)
    entry["sha256"] = hashlib.sha256(data).hexdigest()
    write(folder, manifest)


def refused(folder: Path, match: str, *, engine: bool = False) -> str:
    def load() -> None:
        loaded = load_bundle(folder)
        if engine:
            Engine(loaded, "cpu")

    with pytest.raises(BundleError, match=match) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_whole_bundle_loads_and_runs(toy: Path) -> None:
    bundle = load_bundle(toy)
    assert list(bundle.modalities) == ["video", "flow", "audio"]
    assert bundle.modalities["video"].input.size == (24, 32)
    assert bundle.slot_specs()["audio"].delay_s == 0.1
    assert bundle.action_names == ("idle", "pour bottle", "pour cup", "stir cup", "cut bread")
    producer = bundle.modalities["flow"].producer
    assert producer is not None
    assert producer.size == (64, 48)
    engine = Engine(bundle, "cpu")
    assert engine.providers == ("cpu",)
    assert not engine.runs
    tokens = engine.encode("video", np.zeros((3, 1, 24, 32, 3), np.uint8))
    assert tokens.shape == (3, 2, 6)
    assert engine.runs == {"video": 1}


def test_the_logits_are_those_of_the_reference_evaluator_for_any_presence_and_batch(toy: Path) -> None:
    bundle = load_bundle(toy)
    engine = Engine(bundle, "cpu")
    rng = np.random.default_rng(5)
    tokens, present = {}, {}
    for name, spec in bundle.modalities.items():
        count = spec.slots * spec.tokens
        tokens[name] = rng.standard_normal((3, count, spec.dim)).astype(np.float32)
        present[name] = rng.random((3, count)) < [[0.0], [0.5], [1.0]]
        tokens[name][~present[name]] = np.nan  # what stands behind an absent token does not matter
    logits = engine.fuse(tokens, present)
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load(str(toy / "fusion.onnx")))
    feed = {f"{m}_tokens": tokens[m] for m in tokens} | {f"{m}_present": present[m] for m in present}
    for head in ("verb", "noun"):
        expected = np.asarray(evaluator.run([f"{head}_logits"], feed))[0]
        assert np.isfinite(expected).all()
        assert logits[head] == pytest.approx(expected, abs=1e-5)
    assert engine.runs[FUSION] == 1


def test_the_check_inputs_are_fixed_by_the_seed(toy: Path) -> None:
    modalities = load_bundle(toy).modalities
    one, two, other = (check_inputs(modalities, seed) for seed in (1, 1, 2))
    assert list(one) == ["video", "flow", "audio"]
    assert all((one[name] == two[name]).all() for name in one)
    assert not any((one[name] == other[name]).all() for name in one)
    assert one["video"].dtype == np.uint8
    assert one["audio"].std() == pytest.approx(0.1, rel=0.1)


def test_a_batch_of_the_wrong_shape_or_type_is_a_mistake(toy: Path) -> None:
    engine = Engine(load_bundle(toy), "cpu")
    for bad in (np.zeros((1, 1, 24, 32, 3), np.float32), np.zeros((1, 1, 32, 24, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            engine.encode("video", bad)


def test_a_changed_graph_is_refused_by_its_hash(bundle: Path) -> None:
    path = bundle / "flow.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "flow.onnx" in refused(bundle, "SHA-256")


def test_a_graph_changed_between_loading_and_running_is_refused(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    shutil.copy(bundle / "flow.onnx", bundle / "video.onnx")
    with pytest.raises(BundleError, match="SHA-256"):
        Engine(loaded, "cpu")


@pytest.mark.parametrize("name", ["audio.onnx", "fusion.onnx", MANIFEST])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert name in refused(bundle, "missing")


@pytest.mark.parametrize(
    "name", ["../video.onnx", "/etc/passwd", "sub/video.onnx", "..", "", ".onnx", "a\\b.onnx", "video.onnx\n", 7]
)
def test_a_graph_elsewhere_is_refused(bundle: Path, name: Any) -> None:
    manifest = read(bundle)
    shutil.copy(bundle / "video.onnx", bundle.parent / "video.onnx")
    manifest["modalities"]["video"]["graph"] = name
    write(bundle, manifest)
    assert "modalities.video.graph" in refused(bundle, "plain file name")


def test_a_link_out_of_the_folder_is_refused(bundle: Path) -> None:
    shutil.move(bundle / "video.onnx", bundle.parent / "video.onnx")
    (bundle / "video.onnx").symlink_to("../video.onnx")
    refused(bundle, "leads out")


def test_a_folder_of_links_into_one_bundle_is_that_bundle(toy: Path, tmp_path: Path) -> None:
    # `colcon build --symlink-install` makes such a folder.
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in toy.iterdir():
        (linked / file.name).symlink_to(file)
    assert load_bundle(linked).folder == Path(os.path.realpath(toy))


@pytest.mark.timeout(30)
def test_a_pipe_in_a_files_place_does_not_hang(bundle: Path) -> None:
    (bundle / "video.onnx").unlink()
    os.mkfifo(bundle / "video.onnx")
    refused(bundle, "not a regular file")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "manifest"),
        ("[1, 2", "manifest"),
        ("[]", "not an object"),
        ("\u00ff", "manifest"),
        ("[" * 100_000, "nested"),
        ('{"schema": NaN}', "NaN"),
        ('{"schema": 1, "schema": 1}', "given twice"),
        ('{"schema": 1' + "0" * 10_000 + "}", "manifest|schema"),
        (" " * 1_000_001, "allowed"),
    ],
)
def test_what_is_not_a_manifest_is_refused(bundle: Path, text: str, match: str) -> None:
    (bundle / MANIFEST).write_text(text, encoding="latin-1")
    refused(bundle, match)


def test_every_truncation_of_the_manifest_is_refused(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text().rstrip()
    for length in range(0, len(text), 97):
        (bundle / MANIFEST).write_text(text[:length])
        refused(bundle, "manifest")


@pytest.mark.parametrize("schema", [2, 0, "1", True, None, 1.5, [1]])
def test_another_schema_is_refused_with_its_number(bundle: Path, schema: Any) -> None:
    manifest = read(bundle)
    manifest["schema"] = schema
    write(bundle, manifest)
    refused(bundle, "schema .* this version reads 1")


def everywhere(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all fields of a manifest, the free keys of check.expected included."""
    if not isinstance(value, dict):
        return []
    return [found for key in value for found in [(*path, key), *everywhere(value[key], (*path, key))]]


def with_change(manifest: dict[str, Any], path: tuple[Any, ...], change: Callable[[dict[str, Any], Any], None]) -> Any:
    changed = copy.deepcopy(manifest)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return changed


def test_every_field_is_required_and_has_a_type(bundle: Path) -> None:
    manifest = read(bundle)
    # A bundle may lack a modality, but then its fusion graph must not want it.
    fields = [path for path in everywhere(manifest) if path[:1] != ("schema",)]
    assert len(fields) > 50
    for path in fields:
        wrongs: list[Callable[[dict[str, Any], Any], None]] = [lambda inner, key: inner.update({key: None})]
        if len(path) != 2 or path[0] != "modalities":
            wrongs.append(lambda inner, key: inner.pop(key))
        wrongs.append(lambda inner, key: inner.update({key: {"a": 1}}))
        wrongs.append(lambda inner, key: inner.update({key: True}))
        for wrong in wrongs:
            write(bundle, with_change(manifest, path, wrong))
            refused(bundle, str(path[0]))


def test_unknown_fields_are_refused(bundle: Path) -> None:
    manifest = read(bundle)
    for path in [
        (),
        ("modalities", "video"),
        ("fusion",),
        ("check",),
        ("temperature",),
        ("modalities", "audio", "input"),
    ]:
        write(bundle, with_change(manifest, (*path, "colour"), lambda inner, key: inner.update({key: 1})))
        refused(bundle, "colour")


def test_a_clip_has_a_step_and_a_size_that_fits_in_memory(tmp_path: Path) -> None:
    bundle = make_toy_bundle(tmp_path / "clips", clip=4)
    manifest = read(bundle)
    assert load_bundle(bundle).modalities["flow"].context_step_s == pytest.approx(1 / 15)
    write(bundle, with_change(manifest, ("modalities", "flow"), lambda inner, key: inner[key].pop("context_step_s")))
    refused(bundle, "context_step_s is missing")
    inputs = {**manifest["modalities"]["video"]["input"], "shape": ["B", 9000, 48, 64, 3]}
    change = {"context": 9000, "input": inputs}
    write(bundle, with_change(manifest, ("modalities", "video"), lambda inner, key: inner[key].update(change)))
    refused(bundle, "pixels")


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("name",), "../x", "name"),
        (("window_s",), 0, "window_s"),
        (("window_s",), 1e9, "window_s"),
        (("modalities",), {}, "modalities"),
        (("modalities", "smell"), {}, "modalities must be"),
        (("modalities", "video", "slots"), 0, "slots"),
        (("modalities", "video", "slots"), 2.0, "slots"),
        (("modalities", "video", "slots"), 10**6, "slots"),
        (("modalities", "video", "spacing_s"), 0, "spacing_s"),
        (("modalities", "video", "delay_s"), -1, "delay_s"),
        (("modalities", "video", "rate"), 30, "rate"),
        (("modalities", "audio", "rate"), 0, "rate"),
        (("modalities", "audio", "context"), 100, "shape"),
        (("modalities", "video", "context_step_s"), 0.1, "context_step_s"),
        (("modalities", "video", "input", "shape"), ["B", 1, 24, 32], "shape"),
        (("modalities", "video", "input", "shape"), ["B", 1, 24, 32, 4], "shape"),
        (("modalities", "video", "input", "shape"), ["B", 1, 24, 99_999, 3], "shape"),
        (("modalities", "video", "input", "shape"), [1, 1, 24, 32, 3], "shape"),
        (("modalities", "video", "input", "dtype"), "float32", "dtype"),
        (("modalities", "video", "input", "resize"), "crop", "resize"),
        (("modalities", "flow", "producer", "preset"), "best", "preset"),
        (("modalities", "flow", "producer", "size"), [4, 4], "size"),
        (("modalities", "flow", "graph"), "video.onnx", "share one file"),
        (("modalities", "flow", "sha256"), "A" * 64, "sha256"),
        (("fusion", "precision"), "bf16", "precision"),
        (("heads",), {"verb": ["a"]}, "heads"),
        (("heads", "verb"), ["idle", "idle", "x", "y"], "twice"),
        (("heads", "verb"), [], "heads.verb"),
        (("heads", "verb"), ["idle", "pour", "stir\n", "cut"], "heads.verb"),
        (("actions",), [], "actions"),
        (("actions",), [[0, 0], [0, 0]], "twice"),
        (("actions",), [[0, 4]], "past the end"),
        (("actions",), [[0, -1]], "actions"),
        (("temperature", "verb"), 0, "temperature.verb"),
        (("check", "tolerance"), -1, "tolerance"),
        (("check", "expected", "verb"), [0.0], "check.expected.verb"),
        (("check", "seed"), -1, "seed"),
    ],
)
def test_values_out_of_range_are_refused(bundle: Path, path: tuple[Any, ...], value: Any, match: str) -> None:
    manifest = with_change(read(bundle), path, lambda inner, key: inner.update({key: value}))
    write(bundle, manifest)
    refused(bundle, match)
    with pytest.raises(BundleError):
        write_manifest(bundle, manifest)


def test_a_window_that_would_take_all_memory_is_refused(bundle: Path) -> None:
    manifest = read(bundle)
    manifest["modalities"]["video"] |= {"slots": 10_000, "tokens": 4_096, "dim": 16_384}
    write(bundle, manifest)
    refused(bundle, "modalities.video.slots x tokens x dim")


def test_swapped_graphs_are_refused(bundle: Path) -> None:
    video, flow = ((bundle / f"{name}.onnx").read_bytes() for name in ("video", "flow"))
    replace_graph(bundle, "video", flow)
    replace_graph(bundle, "flow", video)
    assert "video.onnx" in refused(bundle, "input input is tensor", engine=True)


def test_an_extractor_in_the_place_of_the_fusion_is_refused(bundle: Path) -> None:
    replace_graph(bundle, "fusion", (bundle / "video.onnx").read_bytes())
    assert "fusion.onnx" in refused(bundle, "its inputs are input", engine=True)


def test_the_graphs_of_another_network_are_refused_by_the_check(bundle: Path, tmp_path: Path) -> None:
    other = make_toy_bundle(tmp_path / "other", seed=1)
    replace_graph(bundle, "audio", (other / "audio.onnx").read_bytes())
    refused(bundle, "check's .* logits are off", engine=True)


def test_a_wrong_expectation_fails_the_check(bundle: Path) -> None:
    manifest = read(bundle)
    manifest["check"]["expected"]["noun"][2] += 2e-4
    write(bundle, manifest)
    refused(bundle, "noun logits are off by 0.0002", engine=True)
    Engine(load_bundle(bundle), "cpu", check=False)


def test_a_manifest_with_other_shapes_than_the_graphs_is_refused(bundle: Path) -> None:
    manifest = read(bundle)
    manifest["modalities"]["video"]["slots"] += 1
    write(bundle, manifest)
    assert "video_tokens" in refused(bundle, "fusion.onnx: input", engine=True)


def test_bytes_that_are_no_graph_are_refused(bundle: Path) -> None:
    for data in (b"", b"hello", b"\x08\x0a" * 10, (bundle / "video.onnx").read_bytes()[:-100]):
        replace_graph(bundle, "video", data)
        refused(bundle, "not an ONNX graph|refuses it", engine=True)


def test_a_graph_whose_names_are_no_text_is_refused(bundle: Path) -> None:
    data = (bundle / "flow.onnx").read_bytes()
    batch = b"\x12\x01B"  # the name of the batch's dimension, of input and output
    assert batch in data
    replace_graph(bundle, "flow", data.replace(batch, b"\x12\x01\xc2"))
    assert "flow.onnx" in refused(bundle, "names in it are no text", engine=True)


def _with_external_data(location: str) -> bytes:
    """A video extractor whose weights claim to lie in another file."""
    weight = numpy_helper.from_array(np.zeros((2, 6), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["tokens"])],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["B", 1, 24, 32, 3])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["B", 2, 6])],
        initializer=[weight],
    )
    return helper.make_model(graph, ir_version=10).SerializeToString()


def test_a_graph_with_weights_in_other_files_is_refused_unread(bundle: Path) -> None:
    replace_graph(bundle, "video", _with_external_data("/etc/hostname"))
    refused(bundle, "keeps weights in other files", engine=True)


def test_external_data_is_found_wherever_it_hides(toy: Path) -> None:
    external = onnx.load_model_from_string(_with_external_data("x")).graph.initializer[0]
    in_constant = helper.make_node("Constant", [], ["c"], value=external)
    branch = helper.make_graph([in_constant], "b", [], [])
    in_branch = helper.make_node("If", ["i"], ["o"], then_branch=branch, else_branch=helper.make_graph([], "e", [], []))
    in_list = helper.make_node("Custom", [], ["o"], domain="d", tensors=[external])
    in_graphs = helper.make_node("Custom", [], ["o"], domain="d", graphs=[branch])
    sparse = onnx.SparseTensorProto(values=external)
    in_sparse = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    for node in (in_constant, in_branch, in_list, in_graphs, in_sparse):
        assert has_external_data(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())
        function = helper.make_function("d", "f", [], [], [node], [])
        model = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
        assert has_external_data(model.SerializeToString())
    for graph in toy.glob("*.onnx"):
        assert not has_external_data(graph.read_bytes())


def test_a_fixed_batch_is_refused(bundle: Path) -> None:
    model = onnx.load(str(bundle / "video.onnx"))
    dimension = model.graph.input[0].type.tensor_type.shape.dim[0]
    dimension.Clear()
    dimension.dim_value = 1
    replace_graph(bundle, "video", model.SerializeToString())
    refused(bundle, "fixed batch", engine=True)


@pytest.mark.parametrize(
    ("providers", "match"),
    [("gpu", "unknown"), (["cuda"], "onnxruntime-gpu"), ("tensorrt,cpu", "tensorrt"), ([], "no ")],
)
def test_a_provider_that_is_not_there_is_refused_not_replaced(toy: Path, providers: Any, match: str) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match=match):
        Engine(load_bundle(toy), providers)


class Stumbling:
    """A session that fails a number of times, with ONNX Runtime's own error, and then runs."""

    def __init__(self, session: Any, failures: int) -> None:
        self._session, self._failures, self.calls = session, failures, 0

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        self.calls += 1
        if self.calls <= self._failures:
            return self._session.run(outputs, {name: value[..., :-1] for name, value in feed.items()})
        return self._session.run(outputs, feed)


@pytest.mark.parametrize("graph", ["video", "fusion"])
def test_a_failed_run_is_tried_once_more_and_then_said(toy: Path, graph: str) -> None:
    engine = Engine(load_bundle(toy))
    expected = engine.check_logits()

    def stumble(failures: int) -> Stumbling:
        fresh = Engine(load_bundle(toy))
        engine._extractors, engine._fusion, engine.retries = fresh._extractors, fresh._fusion, 0
        session = Stumbling(fresh._fusion if graph == "fusion" else fresh._extractors[graph], failures)
        if graph == "fusion":
            engine._fusion = session
        else:
            engine._extractors[graph] = session
        return session

    stumble(1)
    logits = engine.check_logits()
    assert all(np.array_equal(logits[head], expected[head]) for head in expected)
    assert engine.retries == 1
    session = stumble(2)
    with pytest.raises(BundleError, match="fails on valid input"):
        engine.check_logits()
    assert (session.calls, engine.retries) == (2, 1)


def test_threads_below_one_are_refused(toy: Path) -> None:
    with pytest.raises(EngineError, match="threads"):
        Engine(load_bundle(toy), "cpu", threads=0)


def test_bundles_are_found_by_path_and_by_name(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, data, here = tmp_path / "prefix", tmp_path / "data", tmp_path / "here"
    installed = prefix / "share" / "karmma_ros" / "models" / "kitchen"
    own = data / "karmma" / "models"
    shutil.copytree(toy, installed)
    shutil.copytree(toy, own / "mine")
    shutil.copytree(toy, own / "kitchen")
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(["/nowhere", str(prefix)]))
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    assert find_bundle("kitchen") == installed  # the package's own come first
    assert find_bundle("mine") == own / "mine"
    assert find_bundle(str(toy)) == toy
    assert find_bundle(toy) == toy
    shutil.copytree(toy, here / "local")
    assert find_bundle("local") == Path("local")
    assert load_bundle("./local").name == "toy"
    with pytest.raises(BundleError, match=r"no bundle named 'lost'.*kitchen, mine"):
        find_bundle("lost")
    for path in ("./lost", "lost/", "../mine", str(tmp_path), Path("mine"), "", ".."):
        with pytest.raises(BundleError, match="bundle"):
            find_bundle(path)


def test_the_users_folder_is_the_usual_one_without_xdg(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".local" / "share" / "karmma" / "models" / "mine"
    shutil.copytree(toy, home)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert find_bundle("mine") == home
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert find_bundle("mine") == home


def test_the_folders_of_the_package_are_looked_at(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(toy, tmp_path / "models" / "shipped")
    monkeypatch.setattr("karmma_ros.bundle.share_folders", lambda: iter([tmp_path]))
    assert find_bundle("shipped") == tmp_path / "models" / "shipped"


def test_a_manifest_that_would_not_load_is_not_written(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    manifest = read(bundle)
    manifest["modalities"]["video"]["sha256"] = "0" * 64
    with pytest.raises(BundleError, match="SHA-256"):
        write_manifest(bundle, manifest)
    assert (bundle / MANIFEST).read_bytes() == before
    manifest = read(bundle)
    manifest["name"] = "renamed"
    write_manifest(bundle, manifest)
    assert load_bundle(bundle).name == "renamed"
