# SPDX-License-Identifier: Apache-2.0
"""The access-control policy lists precisely what the node opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ctypes.util import find_library
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
from node.harness import Process, Robot, node_and_robot, robot, start
from sensor_msgs.msg import Image
from toy_bundle import make_toy_bundle

from karmma_ros.nodes import vision

POLICY = Path(__file__).resolve().parents[2] / "config" / "sros2" / "policy.xml"


def allowed(node: str, kind: str, access: str) -> set[str]:
    """Full names of the topics or services that the policy grants a node."""
    (profile,) = ElementTree.parse(POLICY).iterfind(f".//profile[@node='{node}']")
    space = profile.attrib["ns"].rstrip("/")
    names = [e.text or "" for e in profile.iterfind(f"{kind}s[@{access}='ALLOW']/{kind}")]
    full = [
        n if n[0] == "/" else n.replace("~", f"{space}/{node}", 1) if n[0] == "~" else f"{space}/{n}" for n in names
    ]
    assert len(set(full)) == len(full)
    return set(full)


def opened(r: Robot, name: str) -> dict[tuple[str, str], set[str]]:
    """What a node has open, by discovery."""
    node = r.node
    found = {
        ("topic", "subscribe"): node.get_subscriber_names_and_types_by_node(name, "/"),
        ("topic", "publish"): node.get_publisher_names_and_types_by_node(name, "/"),
        ("service", "reply"): node.get_service_names_and_types_by_node(name, "/"),
        ("service", "request"): node.get_client_names_and_types_by_node(name, "/"),
    }
    return {what: {topic for topic, _ in names} for what, names in found.items()}


VISION = set() if vision.installed else {"/action_node/classification", "/action_node/label_info"}
IMAGES = {"raw": "/image", "compressed": "/image/compressed"}


def wait_for_the_policy(r: Robot, name: str, unused: set[str]) -> None:
    """Waits until the node has open what the policy grants, but for what is not in use."""

    def complete() -> bool:
        if name not in r.node.get_node_names():
            return False
        return all(names == allowed(name, *what) - unused for what, names in opened(r, name).items())

    try:
        r.wait("everything to be discovered", complete, 20)
    except AssertionError:
        for what, names in opened(r, name).items():  # says what differs
            assert names == allowed(name, *what) - unused, what
        raise


def test_the_policy_grants_what_the_node_opens_and_nothing_else(tmp_path: Path, ros_env: dict[str, str]) -> None:
    parameters = {"bundle": make_toy_bundle(tmp_path / "toy"), "image__transport": "compressed", "use_sim_time": True}
    with node_and_robot(tmp_path / "log", ros_env, compressed=True, **parameters) as (_, r):
        wait_for_the_policy(r, "action_node", {"/image", "/audio_info", "/detections"} | VISION)


def test_the_policy_grants_what_the_node_opens_with_every_package_that_it_knows(
    tmp_path: Path,
    ros_env: dict[str, str],
    vision_msgs: dict[str, str],
    audio_common_msgs: Callable[[str], dict[str, str]],
) -> None:
    sound = audio_common_msgs("AudioDataStamped")
    packages = {key: f"{path}{os.pathsep}{sound[key]}" for key, path in vision_msgs.items()}
    parameters = {
        "bundle": make_toy_bundle(tmp_path / "toy", modalities=("video", "flow", "audio", "detections")),
        "audio__type": "audio_common_msgs/msg/AudioDataStamped",
        "use_sim_time": True,
    }
    with node_and_robot(tmp_path / "log", ros_env | packages, **parameters) as (_, r):
        wait_for_the_policy(r, "action_node", {"/image/compressed"})


@pytest.mark.parametrize(("name", "output"), [("flow_node", "flow"), ("overlay_node", "overlay_node/image")])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_the_policy_knows_the_companions(
    tmp_path: Path, ros_env: dict[str, str], name: str, output: str, transport: str
) -> None:
    parameters = {"image__transport": transport, "use_sim_time": True}
    process = start(tmp_path / "log", ros_env, module=f"karmma_ros.nodes.{name}", **parameters)
    try:
        with robot() as r:
            r.listen(Image, output)  # they open the rest only while somebody listens
            wait_for_the_policy(r, name, set(IMAGES.values()) - {IMAGES[transport]})
    finally:
        assert process.end() == 0, process.output


@pytest.mark.skipif(find_library("portaudio") is None, reason="PortAudio (libportaudio2) is not installed")
def test_the_policy_knows_the_microphone(tmp_path: Path, ros_env: dict[str, str]) -> None:
    module = "karmma_ros.nodes.microphone_node"
    with node_and_robot(tmp_path / "log", ros_env, module=module, use_sim_time=True) as (_, r):
        wait_for_the_policy(r, "microphone_node", set())


def test_the_policy_knows_who_waits_for_a_node(tmp_path: Path, ros_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "karmma_ros.nodes.wait_active", "/action_node"]
    process = Process(command, ros_env, tmp_path / "log")
    try:
        with robot() as r:
            wait_for_the_policy(r, "wait_active", set())
    finally:
        assert process.end() == 130, process.output


def test_every_executable_that_opens_a_node_has_an_enclave_of_its_name() -> None:
    scripts = {
        point.name for point in entry_points(group="console_scripts") if point.module.startswith("karmma_ros.nodes.")
    }
    assert scripts >= {"action_node", "wait_active"}
    enclaves = {enclave.attrib["path"]: enclave for enclave in ElementTree.parse(POLICY).iterfind(".//enclave")}
    assert enclaves.keys() == {f"/karmma/{name}" for name in scripts}
    for name in scripts:
        (profile,) = enclaves[f"/karmma/{name}"].iterfind(".//profile")
        assert profile.attrib["node"] == name
