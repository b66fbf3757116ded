# SPDX-License-Identifier: Apache-2.0
"""`karmma doctor` as a user runs it, on machines with something broken."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixtures.sound import VirtualMicrophone
from toy_bundle import make_toy_bundle

from karmma_ros.cli.main import main

SCREEN = (80, 24)  # columns, rows of the smallest terminal that is usual


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_bundle(tmp_path_factory.mktemp("doctor") / "toy")


def doctor(
    json_file: Path, bundle: Path | str, *, hidden: str = "", **environment: str
) -> tuple[int, dict[str, Any], str]:
    """(exit status, findings by subject, what is shown), in a process where one package cannot be found."""
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
from karmma_ros.cli.main import main
sys.exit(main(["doctor", "--bundle", {str(bundle)!r}, "--json", {str(json_file)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    found = json.loads(json_file.read_text())
    return done.returncode, {f["subject"]: f for f in found["findings"]}, done.stdout


def rows(shown: str) -> int:
    """Rows of a terminal that lines take, which go on in the next row where they are longer than one."""
    return sum(max(1, math.ceil(len(line) / SCREEN[0])) for line in shown.splitlines())


def test_a_machine_that_works_is_one_screen_and_status_0(tmp_path: Path, bundle: Path, ros_env: dict[str, str]) -> None:
    status, found, shown = doctor(tmp_path / "out.json", bundle)
    assert status == 0
    assert found["ROS 2"]["level"] == found["messages"]["level"] == found["provider cpu"]["level"] == "ok"
    assert found["provider auto"]["text"].startswith("a node takes ")
    assert found["provider auto"]["text"].endswith("cpu")  # alone, or behind a GPU's
    assert "rmw_fastrtps_cpp" in found["middleware"]["text"]
    assert "everything works" in shown
    assert rows(shown) <= SCREEN[1]
    for finding in found.values():
        assert finding["subject"] in shown
        assert finding["remedy"] in shown


def test_a_broken_bundle_is_a_fault_and_everything_else_is_still_looked_at(tmp_path: Path, bundle: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    with (broken / "fusion.onnx").open("ab") as file:
        file.write(b"\0")
    status, found, shown = doctor(tmp_path / "out.json", broken)
    assert status == 1
    assert found["bundle"]["level"] == "fault"
    assert "SHA-256" in found["bundle"]["text"]
    assert found["provider cpu"]["level"] == "fault"
    assert {"machine", "images", "sockets"} <= found.keys()
    assert "at fault" in shown


def test_a_bundle_that_runs_but_not_as_it_should_is_a_fault(tmp_path: Path) -> None:
    """Whole, by its hashes, and yet another network than the manifest was written for."""
    made = make_toy_bundle(tmp_path / "toy")
    manifest = json.loads((made / "bundle.json").read_text())
    head = next(iter(manifest["check"]["expected"]))
    manifest["check"]["expected"][head][0] += 1.0
    (made / "bundle.json").write_text(json.dumps(manifest))
    status, found, _ = doctor(tmp_path / "out.json", made)
    assert status == 1
    assert found["bundle"]["level"] == "ok"
    assert "logits are off" in found["provider cpu"]["text"]


def test_no_such_bundle_says_which_there_are(tmp_path: Path) -> None:
    status, found, _ = doctor(tmp_path / "out.json", "nobody")
    assert status == 1
    assert "known are: tabletop, tabletop-fp32" in found["bundle"]["text"]


def test_without_onnxruntime_the_remedy_is_said(tmp_path: Path, bundle: Path) -> None:
    status, found, _ = doctor(tmp_path / "out.json", bundle, hidden="onnxruntime")
    assert status == 1
    assert found["ONNX Runtime"]["level"] == "fault"
    assert "pip install onnxruntime" in found["ONNX Runtime"]["remedy"]


@pytest.mark.parametrize(("package", "subject"), [("rclpy", "ROS 2"), ("karmma_msgs", "messages")])
def test_a_package_of_ros_that_is_not_there_is_a_fault(
    tmp_path: Path, bundle: Path, ros_env: dict[str, str], package: str, subject: str
) -> None:
    """The probe is a process of its own: a module that fails hides the real one there."""
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}')\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    status, found, _ = doctor(tmp_path / "out.json", bundle, PYTHONPATH=path)
    assert status == 1
    assert found[subject]["level"] == "fault"
    assert package in found[subject]["text"]
    assert "setup.bash" in found[subject]["remedy"]


def test_microphones_are_listed_with_their_index(
    tmp_path: Path, bundle: Path, virtual_microphone: VirtualMicrophone
) -> None:
    _, found, _ = doctor(tmp_path / "out.json", bundle, **virtual_microphone.environment)
    assert found["microphone"]["level"] == "ok"
    assert "0 virtmic" in found["microphone"]["text"]


def test_a_check_that_breaks_is_a_finding(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("karmma_ros.cli.doctor.check_machine", broken)
    out = tmp_path / "out.json"
    assert main(["doctor", "--bundle", str(bundle), "--json", str(out)]) == 1
    machine = next(f for f in json.loads(out.read_text())["findings"] if f["subject"] == "machine")
    assert "RuntimeError: surprise" in machine["text"]
