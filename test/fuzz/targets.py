# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: from bytes to an outcome. Anything but an outcome, that is an exception, is a finding."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from fuzz.decoding import SIZE_CAUSES, decoded, sound_of
from fuzz.inputs import SOUNDS, detections, message, settings

from karmma_ros.audio import AudioInput
from karmma_ros.bags.intervals import read_intervals
from karmma_ros.bundle import load_bundle
from karmma_ros.content import make_gate
from karmma_ros.decode_detections import detections_to_boxes
from karmma_ros.demo.table import offline_accuracies
from karmma_ros.detections import prepare_detections
from karmma_ros.errors import BundleError, MediaError, SampleError, UsageError
from karmma_ros.flow_file import read_flow_file
from karmma_ros.inference.graph_file import has_external_data
from karmma_training.checkpoint import read_about
from karmma_training.comparison.ablation import comparison
from karmma_training.comparison.measured import Measured, comparison_settings
from karmma_training.config import Config
from karmma_training.config_file import load_config
from karmma_training.data.pictures import index_tar
from karmma_training.data.store import StoreFormat
from karmma_training.datasets.epic_kitchens.annotations import read_segments
from karmma_training.datasets.manifest import ManifestSource
from karmma_training.datasets.something_something.detections import read_detections
from karmma_training.datasets.something_something.source import SomethingSomethingSource

__all__ = ["TARGETS"]

MAX_BOXES = 5
CATEGORIES = {"hand": 0, "cup": 1}


def decoders(data: bytes) -> str:
    """A message through its decoder, the gate of its sensor and the preparation for the network."""
    kind, made = message(data)
    user = settings(data)
    return decoded(kind, made, user)


def sound(data: bytes) -> str:
    """Chunks of sound at any rate, into what the recogniser keeps of it."""
    kind, made = message(data, SOUNDS)
    audio = AudioInput(16_000, 1.0)
    try:
        mono, rate = sound_of(kind, made)
        for late_ns in (0, 0, settings(data).late_ns):  # the second is known, the third may lie anywhere
            audio.push(10**12 + late_ns, mono, rate)
    except SampleError as error:
        return "size" if error.cause in SIZE_CAUSES else "content"
    latest_ns = audio.latest_ns
    heard = None if latest_ns is None else audio.ring.read(latest_ns, 1)
    assert heard is None or np.isfinite(heard).all()
    return "accepted"


def boxes(data: bytes) -> str:
    """What a detector says, in the same way."""
    try:
        found = detections_to_boxes(
            detections(data), CATEGORIES, (320, 240), rotate=settings(data).rotate, max_boxes=MAX_BOXES
        )
    except SampleError as error:
        return "size" if error.cause in SIZE_CAUSES else "content"
    assert found.dtype == np.float32
    assert found.shape[1:] == (6,)
    assert len(found) <= MAX_BOXES
    assert (found[:, :2] <= found[:, 2:4]).all()
    make_gate("detections").judge(1, found)
    assert np.isfinite(prepare_detections(found, 4, len(CATEGORIES))).all()
    return "accepted"


def bundles(data: bytes) -> str:
    """A manifest beside the graph that it names; and the same bytes as a graph's, and as an evaluation."""
    with contextlib.suppress(ValueError):
        has_external_data(data)
    offline_accuracies(_file("bundle/evaluation.json", data).parent)
    try:
        bundle = load_bundle(_file("bundle/bundle.json", data).parent)
    except BundleError:
        return "refused"
    graphs = {spec.graph for spec in (*bundle.modalities.values(), bundle.fusion)}
    assert graphs <= {"video.onnx", "flow.onnx", "audio.onnx", "fusion.onnx"}, "what is in its folder"
    return "accepted"


def configs(data: bytes) -> str:
    """A run's settings, from YAML."""
    try:
        load_config(_file("config.yaml", data)).check()
    except UsageError:
        return "refused"
    return "accepted"


def manifests(data: bytes) -> str:
    """A CSV of somebody's recordings; of its files only a.wav exists, and that is looked at later."""
    try:
        ManifestSource(_file("clips.csv", data), StoreFormat.of(Config())).jobs("train", None)
    except UsageError:
        return "refused"
    return "accepted"


def flows(data: bytes) -> str:
    """Fields of optical flow in an archive of arrays."""
    try:
        stamps, fields = read_flow_file(_file("flow.npz", data))
    except MediaError:
        return "refused"
    assert fields.shape == (len(stamps), *fields.shape[1:3], 2)
    assert fields.size <= len(data), "no more than the file holds"
    return "accepted"


def checkpoints(data: bytes) -> str:
    """What a run says of its best weights."""
    try:
        about, labels = read_about(_file("best.json", data))
    except UsageError:
        return "refused"
    assert all(labels.action_name(index) for index in range(len(labels.actions)))
    assert all(1.0 / value for value in about["temperature"].values())
    return "accepted"


def comparisons(data: bytes) -> str:
    """What a comparison of many runs has measured so far."""
    try:
        Measured(_file("results.json", data), comparison_settings(comparison("tiny"), 20.0))
    except UsageError:
        return "refused"
    return "accepted"


def intervals(data: bytes) -> str:
    """What a person says was done in two recordings."""
    try:
        read = read_intervals(_file("intervals.csv", data), ["a", "b"])
    except UsageError:
        return "refused"
    for bag in "ab":
        rows = read.of(bag, 10**18)
        assert all(row.start_s < row.stop_s for row in rows.rows)
        rows.settled(1.0, 0.5)
    return "accepted"


def datasets(data: bytes) -> str:
    """Annotations, labels, detections and archives of the field's data sets; the first byte says which."""
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"a":
            read_segments(_file("EPIC_100_train.csv", rest), verbs=97, nouns=300)
        elif kind == b"t":
            index_tar(_file("P01_01.tar", rest), ["", "u", "v"])
        elif kind == b"d":
            for store in Path("store").glob("*"):
                store.unlink()
            read_detections([_file("detections.json", rest)], ["1", "2"], Path("store"))
        else:
            _file("labels.json", b'{"Lifting something up": "0"}')
            _file("train.json", rest)
            SomethingSomethingSource(Path(), StoreFormat.of(Config())).clips("train")
    except (UsageError, MediaError):
        return "refused"
    return "accepted"


def _file(name: str, data: bytes) -> Path:
    path = Path(name)  # the driver runs in a folder of its own
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


TARGETS = {
    "decoders": decoders,
    "sound": sound,
    "boxes": boxes,
    "bundles": bundles,
    "configs": configs,
    "manifests": manifests,
    "intervals": intervals,
    "flows": flows,
    "checkpoints": checkpoints,
    "comparisons": comparisons,
    "datasets": datasets,
}
