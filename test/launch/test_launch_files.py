# SPDX-License-Identifier: Apache-2.0
"""Each case in cases/ starts a launch file as a user would, and is run by launch_testing's own runner.

By hand, where karmma_ros is installed: `PYTHONPATH=test:test/launch/cases launch_test test/launch/cases/karmma.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.sound import VirtualMicrophone
from toy_bundle import make_toy_bundle

CHECKOUT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).resolve().parent / "cases"


def run_launch_test(name: str, env: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch_testing.launch_test", str(CASES / f"{name}.py")]
    done = subprocess.run(
        command, env={**env, "KARMMA_TEST_FOLDER": str(tmp_path)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "\nOK" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["karmma", "camera", "robots", "respawn", "parameters"])
def test_launch(name: str, launch_env: dict[str, str], tmp_path: Path) -> None:
    run_launch_test(name, launch_env, tmp_path)


def test_what_the_microphone_hears_is_heard(
    launch_env: dict[str, str], virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    run_launch_test("microphone", launch_env | virtual_microphone.environment, tmp_path)


def test_replay(launch_env: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="the bag of this test is written with rosbags, which is not installed")
    run_launch_test("replay", launch_env, tmp_path)


@pytest.mark.parametrize("name", ["karmma", "replay"])
def test_every_argument_is_described(name: str, launch_env: dict[str, str]) -> None:
    program = f"""
from launch.launch_description_sources import get_launch_description_from_python_launch_file as read
for argument in read({str(CHECKOUT / "launch" / f"{name}.launch.py")!r}).get_launch_arguments():
    print(argument.name, "|", argument.description)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=launch_env, capture_output=True, text=True, timeout=60, check=True
    )
    described = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    nav2 = {"namespace", "use_sim_time", "params_file", "bundle", "autostart", "log_level", "use_respawn"}
    assert nav2 <= set(described)
    assert ("bag" in described) == (name == "replay")
    for argument, description in described.items():
        said = description.partition(" Valid choices are")[0]
        assert said.endswith("."), argument
        assert len(said) > 15, argument


END_WITH_THE_PLAYER = """
from launch.actions import LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
ended = [LogInfo(msg="the test has ended"), Shutdown()]
is_player = lambda action: getattr(action, "name", "").startswith("player")
actions.append(RegisterEventHandler(OnProcessExit(target_action=is_player, on_exit=ended)))
"""


def including(name: str, more: str = "", **given: str) -> list[str]:
    """A command that includes a launch file with some arguments, and prints the status that it ended with.

    :param more: lines that add to `actions`.
    """
    program = f"""
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource({str(CHECKOUT / "launch" / f"{name}.launch.py")!r})
actions = [IncludeLaunchDescription(source, launch_arguments={given!r}.items())]
{more}
service = LaunchService()
service.include_launch_description(LaunchDescription(actions))
print("status", service.run())
"""
    return [sys.executable, "-c", program]


def test_a_parameter_file_that_is_not_there_stops_the_launch(launch_env: dict[str, str]) -> None:
    """launch_ros would go on with the defaults. Yes and no may be written as Nav2 writes them."""
    command = including("karmma", params_file="~/nowhere.yaml", use_sim_time="True", use_respawn="False")
    done = subprocess.run(command, env=launch_env, capture_output=True, text=True, timeout=60)
    assert "status 1" in done.stdout
    assert "params_file:=~/nowhere.yaml: no such file" in done.stdout + done.stderr


def test_a_player_that_fails_is_no_end_of_the_bag(launch_env: dict[str, str], tmp_path: Path) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    command = including("replay", bag="nowhere", player="sh -c 'exit 3'", bundle=str(bundle))
    done = subprocess.run(command, env=launch_env, capture_output=True, text=True, timeout=200)
    said = done.stdout + done.stderr
    assert "the player ended with status 3" in said, said[-3000:]
    assert "the bag has ended" not in said


@pytest.mark.parametrize("end", ["True", "false"])
def test_the_player_is_told_what_the_launch_was_told(launch_env: dict[str, str], tmp_path: Path, end: str) -> None:
    """And its end is the launch's, unless that is asked to stay."""
    told = tmp_path / "told"
    given = {
        "bag": "a bag",
        "rate": "2.0",
        "loop": end,
        "player": f'sh -c \'printf "%s\\n" "$@" > {told}\' player',
        "player_arguments": "--topics /image '/a topic'",
        "end_with_bag": end,
        "bundle": str(make_toy_bundle(tmp_path / "toy")),
    }
    stay = end == "false"
    command = including("replay", END_WITH_THE_PLAYER if stay else "", **given)
    done = subprocess.run(command, env=launch_env, capture_output=True, text=True, timeout=200)
    said = done.stdout + done.stderr
    assert "status 0" in said, said[-3000:]
    how = ["--delay", "1"] if stay else ["--loop"]
    expected = ["a bag", "--clock", "200", "--rate", "2.0", *how, "--topics", "/image", "/a topic"]
    assert told.read_text().splitlines() == expected
    assert ("the bag has ended" in said) != stay, said[-3000:]
    assert ("the test has ended" in said) == stay, said[-3000:]
