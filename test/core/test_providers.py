# SPDX-License-Identifier: Apache-2.0
"""Which execution provider is taken, and what is said of those that are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from rich.console import Console
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import Bundle, load_bundle
from karmma_ros.cli.build_engine import build
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.inference.engine_cache import Target, all_built, cache_root, engine_folder
from karmma_ros.inference.providers import attempts
from karmma_ros.inference.session import FUSION, open_session
from karmma_ros.runtime import Engine

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
ORIN = Target("10.3.0", "8.7")


@pytest.fixture
def bundle(toy: Path) -> Bundle:
    return load_bundle(toy)


def claim(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    """ONNX Runtime says that it was built with these."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers])


def graphs(bundle: Bundle) -> list[Any]:
    return [*bundle.modalities.values(), bundle.fusion]


@pytest.mark.parametrize(
    ("here", "engines", "expected"),
    [
        ((CPU,), False, [("cpu",)]),
        ((CUDA, CPU), False, [("cuda", "cpu"), ("cpu",)]),
        ((TENSORRT, CUDA, CPU), False, [("cuda", "cpu"), ("cpu",)]),
        ((TENSORRT, CUDA, CPU), True, [("tensorrt", "cuda", "cpu"), ("cuda", "cpu"), ("cpu",)]),
    ],
)
def test_auto_tries_the_best_first(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], engines: bool, expected: list[tuple[str, ...]]
) -> None:
    claim(monkeypatch, *here)
    assert attempts("auto", engines=engines) == expected
    assert attempts("cpu", engines=engines) == [("cpu",)]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_says_why_it_passes_a_provider_over(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    claim(monkeypatch, CUDA, CPU)
    engine = Engine(bundle)  # ONNX Runtime itself finds that there is no CUDA
    assert engine.providers == ("cpu",)
    assert len(engine.passed_over) == 1
    assert engine.passed_over[0].startswith("cuda: ")
    assert "cannot start" in engine.passed_over[0]
    with pytest.raises(EngineError, match="cuda"):
        Engine(bundle, "cuda")
    with pytest.raises(EngineError, match="cuda"):
        Engine(bundle, "cuda,cpu")


def test_auto_keeps_int8_on_the_cpu(monkeypatch: pytest.MonkeyPatch, toy: Path, tmp_path: Path) -> None:
    claim(monkeypatch, CUDA, CPU)
    shutil.copytree(toy, folder := tmp_path / "int8")
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"precision": "fp32"', '"precision": "int8"', 1))
    engine = Engine(load_bundle(folder))
    assert engine.providers == ("cpu",)
    assert engine.passed_over == ("cuda: graphs in INT8 are for CPUs; a GPU wants FP32 or FP16",)


class Wrong:
    """A session on a provider that works but for what it computes."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        return [value + 0.1 for value in self._session.run(outputs, feed)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def test_a_provider_that_computes_something_else_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    claim(monkeypatch, CUDA, CPU)
    real = onnxruntime.InferenceSession

    def open_wrong(data: bytes, sess_options: Any, providers: list[Any]) -> Any:
        session = real(data, sess_options=sess_options, providers=[CPU])
        return Wrong(session) if providers[0][0] == CUDA else session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_wrong)
    engine = Engine(bundle)
    assert engine.providers == ("cpu",)
    assert "logits are off" in engine.passed_over[0]
    with pytest.raises(BundleError, match="logits are off"):
        Engine(bundle, "cuda")


def test_cuda_is_looked_for_where_pip_puts_it(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    real = onnxruntime.InferenceSession
    order: list[str] = []

    def preload() -> None:
        print("Failed to load libcufft.so.12")  # as ONNX Runtime does of what hardly any graph needs
        order.append("preload")

    def record(data: bytes, sess_options: Any, providers: list[Any]) -> Any:
        order.append(providers[0][0])
        return real(data, sess_options=sess_options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    with pytest.raises(EngineError, match=r"cuda cannot start on this machine \(Failed to load libcufft\.so\.12\)"):
        open_session(bundle, FUSION, ("cuda", "cpu"), 1)
    open_session(bundle, FUSION, ("cpu",), 1)
    assert order == ["preload", CUDA, CPU]
    assert capfd.readouterr().out == ""


def test_what_is_broken_everywhere_is_no_matter_of_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_toy_bundle(tmp_path / "toy")
    bundle = load_bundle(folder)
    (folder / "video.onnx").write_bytes(b"changed since")
    claim(monkeypatch, CUDA, CPU)
    with pytest.raises(BundleError, match="SHA-256"):
        Engine(bundle)


# --- TensorRT's engines


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_root()


def test_an_engine_belongs_to_one_graph_and_one_machine(cache: Path, bundle: Bundle) -> None:
    video = bundle.modalities["video"]
    folders = {engine_folder(graph, ORIN) for graph in graphs(bundle)}
    folders |= {engine_folder(video, Target("10.4.0", "8.7")), engine_folder(video, Target("10.3.0", "9.0"))}
    assert len(folders) == len(graphs(bundle)) + 2
    assert {folder.parent for folder in folders} == {cache}
    assert engine_folder(video, ORIN) == engine_folder(video, ORIN)


def test_engines_are_built_once_and_whole(cache: Path, bundle: Bundle) -> None:
    compiled: list[str] = []

    def compiler(_: Bundle, name: str, folder: Path) -> None:
        compiled.append(name)
        (folder / "graph.engine").write_bytes(b"half")
        if compiled.count("flow") == 1 and name == "flow":
            raise EngineError("out of memory")
        (folder / "graph.engine").write_bytes(b"whole")

    console = Console(quiet=True)
    with pytest.raises(EngineError, match="out of memory"):
        build(bundle, ORIN, compiler, console)
    assert compiled == ["video", "flow"]
    assert [path.name for path in cache.iterdir()] == [engine_folder(bundle.modalities["video"], ORIN).name]
    assert not all_built(graphs(bundle), ORIN)
    build(bundle, ORIN, compiler, console)
    assert compiled == ["video", "flow", "flow", "audio", "fusion"]
    assert all_built(graphs(bundle), ORIN)
    assert {path.read_bytes() for path in cache.glob("*/*")} == {b"whole"}
    build(bundle, ORIN, compiler, console)
    assert len(compiled) == 5


def test_without_an_engine_tensorrt_is_refused_rather_than_compiled(
    monkeypatch: pytest.MonkeyPatch, cache: Path, bundle: Bundle
) -> None:
    claim(monkeypatch, TENSORRT, CPU)
    monkeypatch.setattr("karmma_ros.inference.engine_cache.find_target", lambda: ORIN)
    with pytest.raises(EngineError, match="karmma build-engine --bundle /"):
        Engine(bundle, "tensorrt")
    assert Engine(bundle, "auto").passed_over == ()


def test_engines_for_one_sample_serve_batches(bundle: Bundle) -> None:
    engine, single = Engine(bundle, "cpu"), Engine(bundle, "cpu")
    single._one_by_one = True  # as on TensorRT
    pictures = np.random.default_rng(0).integers(0, 256, (3, *bundle.modalities["video"].input.shape), dtype=np.uint8)
    assert np.allclose(engine.encode("video", pictures), single.encode("video", pictures), atol=1e-6)


def test_what_tensorrt_gets_has_no_open_batch(toy: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Any, Any]] = []
    real = onnxruntime.InferenceSession

    def record(data: bytes, sess_options: Any, providers: list[Any]) -> Any:
        session = real(data, sess_options=sess_options, providers=[CPU])
        opened.append((session, providers))
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    for name in (*bundle.modalities, FUSION):
        with pytest.raises(EngineError, match="tensorrt cannot start"):
            open_session(bundle, name, ("tensorrt",), 1, engines=toy)
        session, providers = opened[-1]
        assert {node.shape[0] for node in session.get_inputs()} == {1}
        assert providers[0][0] == TENSORRT
        assert providers[0][1]["trt_engine_cache_path"] == str(toy)
        assert providers[0][1]["trt_fp16_enable"] == "0"


FAKE_CUDA = r"""
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7 + ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device == 7 ? "Orin" : "H100", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = device == 7 ? (attribute == 75 ? 8 : 7) : (attribute == 75 ? 9 : 0);
  return attribute == 75 || attribute == 76 ? 0 : 1;
}
"""
ASK = (
    "from karmma_ros.inference.gpu import find_gpus, tensorrt_version as v; print([tuple(g) for g in find_gpus()], v())"
)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.parametrize(("number", "version"), [(100300, "10.3.0"), (8601, "8.6.1")])
def test_gpus_and_tensorrt_are_asked_of_their_libraries(tmp_path: Path, number: int, version: str) -> None:
    sources = {
        "libcuda.so.1": FAKE_CUDA,
        f"libnvinfer.so.{version.split('.')[0]}": f"int getInferLibVersion(void) {{ return {number}; }}",
    }
    for name, source in sources.items():
        (tmp_path / "source.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / name, tmp_path / "source.c"], check=True)
    environ = os.environ | {"LD_LIBRARY_PATH": f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    done = subprocess.run([sys.executable, "-c", ASK], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[('Orin', '8.7'), ('H100', '9.0')] {version}"
