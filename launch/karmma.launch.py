# SPDX-License-Identifier: Apache-2.0
"""The recogniser, and whatever of its companions is wanted: flow, microphone, overlay, camera driver.

    ros2 launch karmma_ros karmma.launch.py image:=/camera/image_raw microphone:=true overlay:=true
    ros2 launch karmma_ros karmma.launch.py --show-args

Every argument is described there; docs/launch.md has examples.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from karmma_ros import transport
from launch import LaunchContext, LaunchDescription

YES_NO = ["true", "false", "True", "False"]  # Nav2 writes them with capitals
UNSET = ""  # left to the parameter file, and to the node's default
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes: one for each robot."),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value=UNSET,
        choices=[UNSET, *YES_NO],
        description="Take the time from /clock (a bag, a simulator). Empty: the parameter file's, or false.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="Parameter file for all nodes of this launch. Arguments given here win over it.",
    ),
    DeclareLaunchArgument(
        "bundle",
        default_value="",
        description="Bundle to run: a name or a folder. Empty: the parameter file's, or tabletop.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value=UNSET,
        choices=[UNSET, *YES_NO],
        description="Configure and activate the nodes at start; false leaves that to a lifecycle manager. Empty: the "
        "parameter file's, or true.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severity that is logged.",
    ),
    DeclareLaunchArgument(
        "use_respawn", default_value="false", choices=YES_NO, description="Start a node again that has ended."
    ),
    DeclareLaunchArgument("respawn_delay", default_value="2.0", description="[s] before it is started again."),
    DeclareLaunchArgument(
        "enclave",
        default_value="",
        description="SROS 2: where the nodes' enclaves are, such as /karmma: each takes the one of its name there. "
        "Empty: the root's.",
    ),
    DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images."),
    DeclareLaunchArgument(
        "image_transport",
        default_value=UNSET,
        choices=[UNSET, "raw", "compressed"],
        description="raw: sensor_msgs/Image on that topic; compressed: CompressedImage on that topic + /compressed. "
        "Empty: the parameter file's, or raw.",
    ),
    DeclareLaunchArgument(
        "flow_from",
        default_value=UNSET,
        choices=[UNSET, "inside", "node", "topic"],
        description="Optical flow. inside: action_node computes it from the images; node: flow_node does, and others "
        "may hear it; topic: somebody else publishes it. Empty: inside, unless the parameter file sets flow.compute.",
    ),
    DeclareLaunchArgument("flow", default_value="flow", description="Topic of the optical flow (node, topic)."),
    DeclareLaunchArgument("audio", default_value="audio", description="Topic of the sound."),
    DeclareLaunchArgument(
        "audio_info", default_value="audio_info", description="Topic of what its bytes are: with AudioDataStamped only."
    ),
    DeclareLaunchArgument("detections", default_value="detections", description="Topic of object detections."),
    DeclareLaunchArgument(
        "microphone", default_value="false", choices=YES_NO, description="Start microphone_node, which publishes it."
    ),
    DeclareLaunchArgument(
        "microphone_device",
        default_value="",
        description="Its device: part of a name, or a number. Empty: the parameter file's, or the system's default.",
    ),
    DeclareLaunchArgument(
        "overlay",
        default_value="false",
        choices=YES_NO,
        description="Start overlay_node, which draws the predictions into the images: overlay_node/image.",
    ),
    DeclareLaunchArgument(
        "camera_package", default_value="", description="Package of a camera driver to start. Empty: none is started."
    ),
    DeclareLaunchArgument("camera_executable", default_value="", description="Executable of the camera driver."),
    DeclareLaunchArgument(
        "camera_image", default_value="image_raw", description="The driver's own name for its images' topic."
    ),
]


def generate_launch_description() -> LaunchDescription:
    """All arguments, and the nodes that they ask for."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=make_nodes)])


def make_nodes(context: LaunchContext) -> list[Node]:
    """The nodes that the arguments ask for."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    file = [parameter_file(given["params_file"])] if given["params_file"] else []
    sim_time = when_set("use_sim_time", given["use_sim_time"], yes)
    camera = when_set("image.transport", given["image_transport"])
    managed = when_set("autostart", given["autostart"], yes)
    bundle = when_set("bundle", given["bundle"], as_text)
    microphone = when_set("device", given["microphone_device"], as_text)
    flow = when_set("flow.compute", given["flow_from"], lambda source: source == "inside")
    topics = [(name, given[name]) for name in ("image", "flow", "audio", "audio_info", "detections")]
    topics.append(("image/compressed", f"{given['image']}/compressed"))
    common: dict[str, Any] = {
        "namespace": given["namespace"],
        "output": "screen",
        "respawn": yes(given["use_respawn"]),
        "respawn_delay": float(given["respawn_delay"]),
    }

    log = ["--ros-args", "--log-level", given["log_level"]]
    enclave = given["enclave"].rstrip("/")

    def ours(name: str, *parameters: dict[str, Any], options: tuple[str, ...] = ()) -> Node:
        return Node(
            package="karmma_ros",
            executable=name,
            name=name,
            parameters=[*file, sim_time, *parameters],
            remappings=topics,
            arguments=[*log, *options, *(["--enclave", f"{enclave}/{name}"] if enclave else [])],
            **common,
        )

    # Options come before parameter files, which therefore win over this one.
    nodes = [ours("action_node", camera, managed, bundle, flow, options=("-p", "flow.compute:=true"))]
    if given["flow_from"] == "node":
        nodes.append(ours("flow_node", camera, managed, bundle))
    if yes(given["microphone"]):
        nodes.append(ours("microphone_node", managed, microphone))
    if yes(given["overlay"]):
        nodes.append(ours("overlay_node", camera))
    if given["camera_package"]:
        driver = given["camera_image"]
        nodes.append(
            Node(
                package=given["camera_package"],
                executable=given["camera_executable"],
                name="camera",
                parameters=[*file, sim_time],
                remappings=[(driver, given["image"]), (f"{driver}/compressed", f"{given['image']}/compressed")],
                arguments=log,
                additional_env=transport.additional(),
                **common,
            )
        )
    return nodes


def when_set(parameter: str, text: str, read: Callable[[str], Any] = str) -> dict[str, Any]:
    """A parameter as an argument sets it, or nothing where the argument was left empty."""
    return {} if text == UNSET else {parameter: read(text)}


def as_text(text: str) -> ParameterValue:
    """A parameter that stays a text: "3" is a name, too."""
    return ParameterValue(text, value_type=str)


def yes(text: str) -> bool:
    """What an argument out of YES_NO says."""
    return text.lower() == "true"


def parameter_file(text: str) -> str:
    """The path of a parameter file that is there: launch itself would go on without it."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise RuntimeError(f"params_file:={text}: no such file")
    return str(path)
