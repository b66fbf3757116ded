# SPDX-License-Identifier: Apache-2.0
"""A recorded bag played to the recogniser, on the recording's clock.

    ros2 launch karmma_ros replay.launch.py bag:=BAG image:=/camera/image_raw audio:=/audio overlay:=true

The bag starts once the node listens, and all ends with the bag. `karmma replay BAG` does the same offline, without ROS.
"""

import shlex
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from karmma_ros import transport
from launch import Action, LaunchContext, LaunchDescription

YES_NO = ["true", "false", "True", "False"]  # Nav2 writes them with capitals
ARGUMENTS = [
    DeclareLaunchArgument("bag", description="The bag to play: its folder or file."),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing; 2.0 is twice as fast."),
    DeclareLaunchArgument("loop", default_value="false", choices=YES_NO, description="Play again and again."),
    DeclareLaunchArgument("player", default_value="ros2 bag play", description="The command that plays."),
    DeclareLaunchArgument(
        "player_arguments", default_value="", description="More for that command, such as '--topics /image /audio'."
    ),
    DeclareLaunchArgument(
        "end_with_bag", default_value="true", choices=YES_NO, description="End everything when the bag has ended."
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="true", choices=YES_NO, description="Take the time from the bag's /clock."
    ),
]
CLOCK_HZ = "200"  # of /clock: the default of 40 Hz would be seen in the latencies
DELAY_S = "1"  # the player waits for nobody: until the node knows of its publishers, what it plays is lost


def generate_launch_description() -> LaunchDescription:
    """The recogniser's launch file, with all of its arguments, and the bag's player once the recogniser is active."""
    return LaunchDescription(
        [
            *ARGUMENTS,
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(Path(__file__).with_name("karmma.launch.py"))),
                launch_arguments=[("use_sim_time", LaunchConfiguration("use_sim_time"))],
            ),
            OpaqueFunction(function=play_once_active),
        ]
    )


def ended(why: str) -> list[Action]:
    """The end of the launch; the reason of a Shutdown is not printed where a process's exit leads to it."""
    return [LogInfo(msg=why), Shutdown(reason=why)]


def play_once_active(context: LaunchContext) -> list[Action]:
    """Waits for the node, plays, and ends."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    bag = str(Path(given["bag"]).expanduser())
    command = [*shlex.split(given["player"]), bag, "--clock", CLOCK_HZ, "--rate", given["rate"]]
    # The delay comes before every round: with --loop, what is lost of the first comes again.
    command += ["--loop"] if given["loop"].lower() == "true" else ["--delay", DELAY_S]
    command += shlex.split(given["player_arguments"])
    # Its images are lost without the profile, as a camera driver's are.
    player = ExecuteProcess(cmd=command, name="player", output="screen", additional_env=transport.additional())
    namespace = LaunchConfiguration("namespace").perform(context)
    if not namespace.startswith("/"):  # within a namespace that was pushed around this launch file
        namespace = f"{context.launch_configurations.get('ros_namespace', '')}/{namespace}"
    node = "/".join(["", *filter(None, namespace.split("/")), "action_node"])
    enclave = LaunchConfiguration("enclave").perform(context).rstrip("/")
    secured = ["--ros-args", "--enclave", f"{enclave}/wait_active"] if enclave else []
    waiting = Node(package="karmma_ros", executable="wait_active", arguments=[node, *secured], output="screen")

    def play(event: ProcessExited, _: LaunchContext) -> list[Action]:
        if event.returncode:
            return ended(f"{node} did not become active")
        return [LogInfo(msg=f"playing {bag}"), player]

    def end(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:  # after Ctrl-C
            return []
        if event.returncode:
            return ended(f"the player ended with status {event.returncode}: see what it says above")
        return ended("the bag has ended") if given["end_with_bag"].lower() == "true" else []

    return [
        RegisterEventHandler(OnProcessExit(target_action=waiting, on_exit=play)),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=end)),
        waiting,
    ]
