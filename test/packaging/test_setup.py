# SPDX-License-Identifier: Apache-2.0
"""`make setup`: refuses in one line what cannot work, and picks up where it was interrupted."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
COPIED = ["Makefile", "scripts", "cmake", "requirements", "karmma_msgs", "setup.py", "setup.cfg", "package.xml"]
COPIED += ["resource", "config", "karmma_ros", "training", "benchmarks", "README.md"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the setup needs of a checkout."""
    copy = tmp_path / "karmma_ros"
    copy.mkdir()
    for name in COPIED:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy2(path, copy / name)
    return copy


def environment(tmp_path: Path, programs: dict[str, str], **variables: str) -> dict[str, str]:
    """The environment without any ROS, with some programs replaced by shell scripts."""
    env = {name: value for name, value in os.environ.items() if "ROS" not in name and not name.startswith("AMENT")}
    env.pop("MAKEFLAGS", None)
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    env["PATH"] = f"{folder}{os.pathsep}{env['PATH']}"
    return env | variables


def refused(checkout: Path, env: dict[str, str]) -> str:
    done = subprocess.run(["scripts/setup", "robot"], cwd=checkout, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("karmma: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (checkout / ".venv").exists()
    return done.stderr


ARM = 'case "$1" in -m) echo aarch64;; *) echo Linux;; esac'


def test_arm_without_ros_is_refused(checkout: Path, tmp_path: Path) -> None:
    line = refused(checkout, environment(tmp_path, {"uname": ARM}))
    assert "no ROS 2" in line
    assert "aarch64" in line


def test_arm_with_an_old_ros_is_refused(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, {"uname": ARM}, AMENT_PREFIX_PATH="/opt/ros/humble", ROS_DISTRO="humble")
    done = subprocess.run(["scripts/setup", "robot"], cwd=checkout, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "humble is older than Jazzy" in done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.10", "2.7"])
def test_an_old_python_is_refused(checkout: Path, tmp_path: Path, version: str) -> None:
    env = environment(tmp_path, {"old": f"echo {version} is old"}, PYTHON="old")
    assert f"old is Python {version}, and 3.11 or newer is needed" in refused(checkout, env)


def test_a_python_without_wheels_is_refused(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, {"new": "echo 3.14 is new"}, PYTHON="new")
    assert "wheels are for 3.11 to 3.13" in refused(checkout, env)


def test_a_missing_python_is_refused(checkout: Path, tmp_path: Path) -> None:
    assert "'nowhere' does not run" in refused(checkout, environment(tmp_path, {}, PYTHON="nowhere"))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_an_interrupted_setup_is_taken_up_again(checkout: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, {})
    for step in ("making .venv", "installing the packages", "building karmma_msgs"):
        with subprocess.Popen(
            ["make", "setup"], cwd=checkout, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stderr is not None
            assert any(step in line for line in process.stderr)  # reads up to the line, or to the end
            try:  # some way into the step
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(["make", "setup"], cwd=checkout, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    started = time.monotonic()
    again = subprocess.run(["make", "setup"], cwd=checkout, env=env, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - started < 2
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    for command in (["karmma", "--help"], ["python", "-c", "import rclpy, karmma_msgs.msg, karmma_ros"]):
        program = checkout / ".venv/bin" / command[0]
        subprocess.run(
            [program, *command[1:]], cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL, timeout=60
        )
