# SPDX-License-Identifier: Apache-2.0
"""ROS 2: is it there, which one, over which middleware, and with our messages?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from karmma_ros.doctor.finding import Finding, advice, fault, ok

__all__ = ["check_ros", "judge_ros"]

_PATIENCE_S = 60.0
_TOO_OLD = ("ardent", "bouncy", "crystal", "dashing", "eloquent", "foxy", "galactic", "humble", "iron")
# In a process of its own: rclpy may restart the interpreter to find its libraries, or take it down.
_PROBE = """
import importlib, json
found = {}
for name in ("rclpy", "karmma_msgs.msg", "vision_msgs.msg", "audio_common_msgs.msg"):
    try:
        importlib.import_module(name)
        found[name] = ""
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
if not found["rclpy"]:
    import rclpy
    found["rmw"] = rclpy.get_rmw_implementation_identifier()
print("\\n" + json.dumps(found))
"""


def check_ros(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Imports rclpy and the messages in a process of its own."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, on the text above
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            env=environ,
            check=False,
        )
        probe = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        probe = {"rclpy": f"no answer within {_PATIENCE_S:.0f} s"}
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        probe = {"rclpy": last[0]}
    yield from judge_ros(probe, environ)


def judge_ros(probe: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    """:param probe: what went wrong at the import of each package ("" if nothing), and `rmw`."""
    if probe["rclpy"]:
        yield fault(
            "ROS 2", f"rclpy: {probe['rclpy']}", "source ROS 2's setup.bash; on x86_64 without ROS 2: make setup"
        )
        return
    distribution = environ.get("ROS_DISTRO", "")
    if distribution in _TOO_OLD:
        yield fault("ROS 2", f"{distribution} is too old", "install Jazzy or later")
    else:
        yield ok("ROS 2", distribution or "from wheels in this Python environment")
    domain = environ.get("ROS_DOMAIN_ID", "0")
    yield ok("middleware", f"{probe['rmw']}, domain {domain}")
    if probe["karmma_msgs.msg"]:
        yield fault(
            "messages",
            f"karmma_msgs: {probe['karmma_msgs.msg']}",
            "colcon build --base-paths src src/karmma_ros/karmma_msgs, source install/setup.bash; here: make setup",
        )
    else:
        others = [name.removesuffix(".msg") for name in ("vision_msgs.msg", "audio_common_msgs.msg") if not probe[name]]
        yield ok("messages", ", ".join(["karmma_msgs", *others]))
    if "localhost" in environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").lower():
        yield advice(
            "discovery",
            "ROS_AUTOMATIC_DISCOVERY_RANGE is LOCALHOST: other machines are not seen",
            "unset it if there are any",
        )
