# SPDX-License-Identifier: Apache-2.0
"""The repository is an ordinary ROS package: cloned into a workspace, colcon builds and installs both packages."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="there is no ROS 2 on this machine")

pytestmark = pytest.mark.timeout(900)  # half a minute on two idle cores; a busy machine is slow to compile

CHECKOUT = Path(__file__).parents[2]
BESIDES = {"build", "install", "log", "out", "runs", "data"}  # at the top only: not part of a clone


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a copy of the checkout, built as the README says."""
    root = tmp_path_factory.mktemp("ws")
    source = root / "src" / "karmma_ros"
    for path in CHECKOUT.iterdir():
        if path.name.startswith(".") or path.name in BESIDES:
            continue
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, source / path.name)
    colcon(root, "--base-paths", "src", "src/karmma_ros/karmma_msgs", "--cmake-args", *cmake_arguments())
    return root


def on_wheels() -> bool:
    """Whether ROS 2 comes from wheels in the virtual environment, or from an installation that has been sourced."""
    return (Path(sys.prefix) / "share" / "rosidl_default_generators").is_dir()


def cmake_arguments() -> list[str]:
    if not on_wheels():
        return ["-DBUILD_TESTING=OFF"]
    return ["-GNinja", "-DBUILD_TESTING=OFF", f"-DCMAKE_PROJECT_INCLUDE={CHECKOUT / 'cmake' / 'wheel_paths.cmake'}"]


def environment() -> dict[str, str]:
    """As after sourcing the ROS 2 that is in use, without this checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COLCON_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    if on_wheels():
        env.pop("PYTHONPATH", None)
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = sys.prefix
    return env


def colcon(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_direct+", *arguments]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def sourced(root: Path, install: str, command: str) -> str:
    """What a shell that has sourced the workspace prints; run far from the sources."""
    script = f". {shlex.quote(str(root / install))}/setup.bash && {command}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=root.parent, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_ros_finds_the_package_and_its_nodes(workspace: Path) -> None:
    installed = workspace / "install" / "karmma_ros"
    assert (installed / "share/ament_index/resource_index/packages/karmma_ros").is_file()
    assert (installed / "share/karmma_ros/package.xml").is_file()
    for script in ("action_node", "flow_node", "microphone_node", "overlay_node", "wait_active", "karmma"):
        assert os.access(installed / "lib/karmma_ros" / script, os.X_OK), script
    find = "from ament_index_python import get_package_share_directory as f; print(f('karmma_ros'), f('karmma_msgs'))"
    shares = sourced(workspace, "install", f'python -c "{find}"').split()
    assert shares[0] == str(installed / "share/karmma_ros")
    assert shares[1].startswith(str(workspace / "install"))


def test_everything_can_be_imported(workspace: Path) -> None:
    command = "import karmma_ros, karmma_training, karmma_msgs.msg as m; print(karmma_ros.__file__, m.__file__)"
    ours, messages = sourced(workspace, "install", f'python -c "{command}; karmma_training"').split()
    assert ours.startswith(str(workspace / "install/karmma_ros"))
    assert messages.startswith(str(workspace / "install/karmma_msgs"))


def test_every_package_of_the_checkout_is_installed(workspace: Path) -> None:
    sources = workspace / "src/karmma_ros"
    (site,) = (workspace / "install/karmma_ros/lib").glob("python3*/site-packages")
    for source, name in (("karmma_ros", "karmma_ros"), ("training", "karmma_training")):
        wanted = {path.relative_to(sources / source) for path in (sources / source).rglob("*.py")}
        installed = {path.relative_to(site / name) for path in (site / name).rglob("*.py")}
        assert wanted == installed, f"{name}: is an __init__.py missing?"


def test_shared_files_keep_their_tree(workspace: Path) -> None:
    sources, share = workspace / "src/karmma_ros", workspace / "install/karmma_ros/share/karmma_ros"
    assert (share / "config/fastdds.xml").is_file()
    for folder in ("config", "launch", "models"):
        wanted = {
            path.relative_to(sources): path.stat().st_size
            for path in (sources / folder).rglob("[!.]*")
            if path.is_file()
        }
        for path, size in wanted.items():
            assert (share / path).stat().st_size == size


def test_the_installed_code_finds_the_installed_files(workspace: Path) -> None:
    command = "from karmma_ros.share import share_path; print(share_path('config/fastdds.xml'))"
    found = sourced(workspace, "install", f'python -c "{command}"')
    assert found == str(workspace / "install/karmma_ros/share/karmma_ros/config/fastdds.xml")


def test_the_installed_command_runs(workspace: Path) -> None:
    command = shlex.quote(str(workspace / "install/karmma_ros/lib/karmma_ros/karmma"))
    assert "usage" in sourced(workspace, "install", f"{command} --help").lower()


def test_symlink_install(workspace: Path) -> None:
    places = ["--build-base", "build_links", "--install-base", "install_links"]
    colcon(workspace, *places, "--base-paths", "src", "--symlink-install")  # karmma_msgs, inside, is not looked for
    command = "import karmma_ros, karmma_training.config, os; print(os.path.realpath(karmma_ros.__file__))"
    found = sourced(workspace, "install_links", f'python -c "{command}"')
    assert found == str(workspace / "src/karmma_ros/karmma_ros/__init__.py")
