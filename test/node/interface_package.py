# SPDX-License-Identifier: Apache-2.0
"""Builds a package of messages for real, so that an optional one can be heard over DDS where it is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["VISION_MSGS", "build_package"]

CHECKOUT = Path(__file__).parents[2]

_HEADER = "std_msgs/Header header\n"
# Those of vision_msgs 4.1 that this project knows, with all their fields
VISION_MSGS: Mapping[str, str] = {
    "Point2D": "float64 x\nfloat64 y\n",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "Detection2D": _HEADER + "ObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n",
    "Detection2DArray": _HEADER + "Detection2D[] detections\n",
    "Classification": _HEADER + "ObjectHypothesis[] results\n",
    "VisionClass": "uint16 class_id\nstring class_name\n",
    "LabelInfo": _HEADER + "vision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}

_PACKAGE = """<package format="3">
  <name>{name}</name><version>0.0.0</version><description>For tests</description>
  <maintainer email="nobody@example.org">nobody</maintainer><license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend><buildtool_depend>rosidl_default_generators</buildtool_depend>
  {depends}<exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
_CMAKE = """cmake_minimum_required(VERSION 3.8)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{finds}
rosidl_generate_interfaces(${{PROJECT_NAME}} {messages} DEPENDENCIES {depends})
ament_package()
"""


def build_package(folder: Path, name: str, messages: Mapping[str, str], depends: Sequence[str]) -> dict[str, str]:
    """Builds and installs a package of messages below a folder.

    :param messages: {message: definition}.
    :param depends: packages that the definitions name.
    :return: what to add to the environment of a process that is to find it, before anything else of that name.
    """
    (folder / "msg").mkdir()
    for message, definition in messages.items():
        (folder / "msg" / f"{message}.msg").write_text(definition)
    tags = "".join(f"<depend>{depend}</depend>" for depend in depends)
    (folder / "package.xml").write_text(_PACKAGE.format(name=name, depends=tags))
    cmake = _CMAKE.format(
        name=name,
        finds="\n".join(f"find_package({depend} REQUIRED)" for depend in depends),
        messages=" ".join(f"msg/{message}.msg" for message in messages),
        depends=" ".join(depends),
    )
    (folder / "CMakeLists.txt").write_text(cmake)
    prefix = folder / "install"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython3_EXECUTABLE={sys.executable}", "-DCMAKE_CXX_FLAGS=-O0"]
    if (Path(sys.prefix) / "share" / "rosidl_default_generators").is_dir():  # ROS 2 from wheels
        environment["AMENT_PREFIX_PATH"] = sys.prefix
        options += [
            f"-DCMAKE_PREFIX_PATH={sys.prefix}",
            f"-DCMAKE_PROJECT_INCLUDE={CHECKOUT / 'cmake' / 'wheel_paths.cmake'}",
        ]
    for command in (
        ["cmake", "-S", str(folder), "-B", str(folder / "build"), "-GNinja", *options],
        ["cmake", "--build", str(folder / "build"), "--target", "install"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    python = f"python{sysconfig.get_python_version()}"
    first = {
        "PYTHONPATH": prefix / "lib" / python / "site-packages",
        "AMENT_PREFIX_PATH": prefix,
        "LD_LIBRARY_PATH": prefix / "lib",
    }
    return {key: f"{path}{os.pathsep}{os.environ.get(key, '')}".rstrip(os.pathsep) for key, path in first.items()}
