# SPDX-License-Identifier: Apache-2.0
"""scripts/pictures.py: what the pictures in the documents show is what the code does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("karmma_msgs.msg", reason="there is no ROS 2 on this machine")
pytest.importorskip("rosbags", reason="the packages for bags are not here")

from karmma_ros.records import read_records
from karmma_ros.tabletop.sequence import make_sequence

SCRIPT = Path(__file__).parents[2] / "scripts" / "pictures.py"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_recording_in_trouble_is_told_as_it_is(pictures: ModuleType, tmp_path: Path) -> None:
    """Flow goes with the camera that it is computed from: what is missing of a covered one is missing, not frozen."""
    scene = make_sequence(1, "test", duration_s=8.0, size=(160, 120))
    pictures.record(tmp_path / "bag", scene, gone=(1.0, 2.5), covered=(3.5, 5.5), muted=(6.0, 8.0))
    pictures.karmma("replay", tmp_path / "bag", "--no-overlay", "--out", tmp_path / "out")
    states = {
        round(record.t_s * 30): {name: sensor.state for name, sensor in record.sensors.items()}
        for record in read_records(tmp_path / "out" / "predictions.jsonl")
    }
    fine = {"video": "OK", "flow": "OK", "audio": "OK"}
    assert states[27] == fine
    assert states[60] == fine | {"video": "STALE", "flow": "STALE"}
    assert states[100] == fine
    assert states[160] == fine | {"video": "OCCLUDED", "flow": "STALE"}
    assert states[235] == fine | {"audio": "MUTED"}


def test_the_overlay_is_of_the_last_frame(pictures: ModuleType, tmp_path: Path) -> None:
    scene = make_sequence(1, "test", duration_s=1.5, size=(320, 240))
    pictures.record(tmp_path / "bag", scene)
    drawn = pictures.last_overlay(tmp_path / "bag").astype(int)
    frame = scene.frame(scene.n_frames - 1).astype(int)
    middle = slice(40, 180)  # between the panels
    assert np.abs(drawn[middle] - frame[middle]).mean() < 4, "the frame, but for JPEG"
    for panel in (slice(0, 16), slice(190, 240)):
        assert drawn[panel].mean() < 0.7 * frame[panel].mean()
        assert drawn[panel].max() > 150, "nothing is written on it"


def test_what_is_unknown_is_refused_before_anything_is_made(
    pictures: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pictures.py", "overlay", "selfie"])
    with pytest.raises(SystemExit):
        pictures.main()
    assert "selfie: choose from health, overlay, demo" in capsys.readouterr().err
