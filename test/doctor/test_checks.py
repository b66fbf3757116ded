# SPDX-License-Identifier: Apache-2.0
"""Single checks, on readings of machines that this one is not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from karmma_ros.doctor.bundles import Trial
from karmma_ros.doctor.dds import Camera, Host, SharedMemory, check_dds, read_profile
from karmma_ros.doctor.engine import check_engine, judge_auto, judge_gpus, judge_trials
from karmma_ros.doctor.finding import Finding, Level
from karmma_ros.doctor.machine import check_machine, judge_cores, judge_power_mode
from karmma_ros.doctor.ros import judge_ros
from karmma_ros.errors import UsageError
from karmma_ros.inference.gpu import Gpu
from karmma_ros.share import share_path

MB = 1 << 20
VGA = Camera(640, 480, 30)
GOOD = Host(shm_bytes=8192 * MB, shm_free_bytes=8192 * MB, rmem_max=64 * MB)


def by_subject(findings: Iterable[Finding]) -> dict[str, Finding]:
    found = list(findings)
    for finding in found:
        assert bool(finding.remedy) is (finding.level is not Level.OK), finding  # no complaint without a remedy
    return {finding.subject: finding for finding in found}


def test_our_profile_has_segments_of_32_mb() -> None:
    assert read_profile(share_path("config/fastdds.xml")) == SharedMemory(32 * MB, 8 * MB)


@pytest.mark.parametrize(
    ("size", "free", "level", "said"),
    [
        (64, 64, Level.ADVICE, "hold 2 participants"),  # a container's default
        (32, 32, Level.FAULT, "not even a camera and the node"),
        (0, 0, Level.FAULT, "not even"),
        (8192, 20, Level.FAULT, "not one more"),
        (128, 128, Level.OK, "hold 4 participants"),
    ],
)
def test_shared_memory_is_judged_by_participants(size: int, free: int, level: Level, said: str) -> None:
    found = by_subject(check_dds({}, VGA, Host(size * MB, free * MB, 64 * MB)))["/dev/shm"]
    assert found.level is level
    assert said in found.text
    if level is not Level.OK and free == size:
        assert "--shm-size=256m" in found.remedy


@pytest.mark.parametrize(
    ("camera", "level"),
    [(VGA, Level.OK), (Camera(1920, 1080, 60), Level.ADVICE), (Camera(3840, 2160, 30), Level.FAULT)],
)
def test_a_segment_is_judged_by_the_images_that_it_holds(camera: Camera, level: Level) -> None:
    assert by_subject(check_dds({}, camera, GOOD))["images"].level is level


def test_socket_buffers_are_judged_by_the_size_of_an_image() -> None:
    found = by_subject(check_dds({}, VGA, Host(8192 * MB, 8192 * MB, 212_992)))["sockets"]
    assert found.level is Level.ADVICE
    assert "sysctl -w net.core.rmem_max=16777216" in found.remedy
    assert by_subject(check_dds({}, VGA, GOOD))["sockets"].level is Level.OK


def test_a_system_that_does_not_say_is_not_judged() -> None:
    assert not {"/dev/shm", "sockets"} & set(by_subject(check_dds({}, VGA, Host(None, None, None))))


def test_ones_own_profile_is_kept_and_judged(tmp_path: Path) -> None:
    ours = share_path("config/fastdds.xml")
    mine = tmp_path / "mine.xml"
    mine.write_text(ours.read_text().replace("33554432", "1048576").replace("8388608", "1048576"))
    found = by_subject(check_dds({"FASTRTPS_DEFAULT_PROFILES_FILE": str(mine)}, VGA, GOOD))
    assert found["Fast DDS"].level is Level.OK
    assert found["images"].level is Level.ADVICE  # one image and no more
    mine.write_text("<profiles>")
    unreadable = by_subject(check_dds({"FASTRTPS_DEFAULT_PROFILES_FILE": str(mine)}, VGA, GOOD))["Fast DDS"]
    assert unreadable.level is Level.FAULT
    given = by_subject(check_dds({"FASTRTPS_DEFAULT_PROFILES_FILE": str(ours)}, VGA, GOOD))["Fast DDS"]
    assert given.level is Level.OK
    not_given = by_subject(check_dds({}, VGA, GOOD))["Fast DDS"]
    assert not_given.remedy == f"export FASTRTPS_DEFAULT_PROFILES_FILE={ours}"
    other = by_subject(check_dds({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, VGA, GOOD))
    assert "rmw_cyclonedds_cpp" in other["Fast DDS"].text


@pytest.mark.parametrize("text", ["640x480", "640*480@30", "0x480@30", "640x480@0", "x@", "640x480@30fps"])
def test_a_camera_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="640x480@30"):
        Camera.parse(text)


def test_a_camera_is_read() -> None:
    assert Camera.parse("1920x1080@29.97") == Camera(1920, 1080, 29.97)


PROBE = {"rclpy": "", "karmma_msgs.msg": "", "vision_msgs.msg": "absent", "audio_common_msgs.msg": "", "rmw": "rmw_x"}


@pytest.mark.parametrize(
    ("probe", "environ", "subject", "level", "said"),
    [
        (PROBE, {"ROS_DISTRO": "jazzy"}, "ROS 2", Level.OK, "jazzy"),
        (PROBE, {"ROS_DISTRO": "humble"}, "ROS 2", Level.FAULT, "Jazzy or later"),
        (PROBE | {"rclpy": "ModuleNotFoundError: no"}, {}, "ROS 2", Level.FAULT, "setup.bash"),
        (PROBE | {"karmma_msgs.msg": "ModuleNotFoundError: no"}, {}, "messages", Level.FAULT, "--base-paths"),
        (PROBE, {}, "messages", Level.OK, "karmma_msgs, audio_common_msgs"),
        (PROBE, {"ROS_DOMAIN_ID": "7"}, "middleware", Level.OK, "rmw_x, domain 7"),
        (PROBE, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "discovery", Level.ADVICE, "other machines"),
    ],
)
def test_ros(probe: dict[str, str], environ: dict[str, str], subject: str, level: Level, said: str) -> None:
    found = by_subject(judge_ros(probe, environ))[subject]
    assert found.level is level
    assert said in found.text + found.remedy


def test_a_provider_that_does_not_run_is_a_fault_for_the_cpu_and_advice_for_others() -> None:
    trials = [Trial("cuda", "libcudnn.so.9 is missing"), Trial("cpu", "", 3.5)]
    found = by_subject(judge_trials("1.32.0", trials))
    assert found["provider cpu"].level is Level.OK
    assert found["provider cuda"].level is Level.ADVICE
    assert "libcudnn.so.9" in found["provider cuda"].text
    assert by_subject(judge_trials("1.32.0", [Trial("cpu", "died of SIGILL")]))["provider cpu"].level is Level.FAULT


def test_engines_that_have_not_been_built_are_built_by_a_command() -> None:
    """It is the remedy, and not to install what is there."""
    problem = "/models/toy/video.onnx: TensorRT has no engine of it: karmma build-engine --bundle /models/toy"
    found = by_subject(judge_trials("1.23.0", [Trial("cpu", "", 3.5), Trial("tensorrt", problem)]))["provider tensorrt"]
    assert found.level is Level.ADVICE
    assert found.text == "this ONNX Runtime 1.23.0 has it: /models/toy/video.onnx: TensorRT has no engine of it"
    assert found.remedy == "karmma build-engine --bundle /models/toy"


def test_which_providers_a_node_takes_by_itself_is_said() -> None:
    taken = by_subject(judge_auto(Trial("auto", "", 1.5, ("cuda", "cpu"))))["provider auto"]
    assert (taken.level, taken.text) == (Level.OK, "a node takes cuda, cpu")
    assert by_subject(judge_auto(Trial("cpu", "", 3.5, ("cpu",))))["provider auto"].text == "a node takes cpu"
    # A library that takes the process down takes the node down too, whatever cpu could do.
    died = by_subject(judge_auto(Trial("auto", "the process died of SIGSEGV")))["provider auto"]
    assert died.level is Level.FAULT
    assert "providers:=cpu" in died.remedy
    assert by_subject(judge_auto(Trial("cpu", "logits are off"))) == {}  # the provider's own line says it


def test_auto_is_tried_where_there_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def run(provider: str) -> Trial:
        tried.append(provider)
        return Trial(provider, "", 1.0, ("cuda", "cpu") if provider == "auto" else (provider,))

    for here, said in ((["cuda", "cpu"], "a node takes cuda, cpu"), (["cpu"], "a node takes cpu")):
        tried.clear()
        monkeypatch.setattr("karmma_ros.inference.providers.available", lambda here=here: here)
        assert by_subject(check_engine(run))["provider auto"].text == said
        assert tried == [*here, *["auto"] * (len(here) > 1)]


WELL, LACKING = Trial("cuda", "", 1.5), Trial("cuda", "no kernel image is available for execution on the device")
UNBUILT = Trial("tensorrt", "no engine: karmma build-engine --bundle toy")


@pytest.mark.parametrize(
    ("trials", "machine", "level", "said"),
    [
        ([WELL], "x86_64", Level.OK, "compute capability 8.7"),
        ([WELL], "aarch64", Level.OK, "compute capability 8.7"),
        ([LACKING, Trial("tensorrt", "", 1.0)], "x86_64", Level.OK, "compute capability 8.7"),
        ([UNBUILT, WELL], "aarch64", Level.OK, "compute capability 8.7"),
        ([LACKING], "aarch64", Level.ADVICE, "docs/jetson.md"),  # the index's wheel for arm64 on an Orin
        ([LACKING], "x86_64", Level.ADVICE, "mend provider cuda"),
        ([LACKING, UNBUILT], "x86_64", Level.ADVICE, "mend provider cuda or tensorrt"),
        ([], "x86_64", Level.ADVICE, "onnxruntime-gpu"),
        ([], "aarch64", Level.ADVICE, "docs/jetson.md"),
    ],
)
def test_a_gpu_that_nothing_runs_on_is_not_used(trials: list[Trial], machine: str, level: Level, said: str) -> None:
    trials = [*trials, Trial("cpu", "", 3.5)]
    found = by_subject(judge_gpus([Gpu("Orin", "8.7")], trials, machine))["GPU"]
    assert found.level is level
    assert said in found.text + found.remedy
    assert ("not used" in found.text) is (level is Level.ADVICE)
    assert by_subject(judge_gpus([], trials, machine)) == {}


@pytest.mark.parametrize(
    ("answer", "level"),
    [("NV Power Mode: MAXN\n0\n", Level.OK), ("NV Power Mode: 15W\n2\n", Level.ADVICE), ("", Level.ADVICE)],
)
def test_power_mode_of_a_jetson(answer: str, level: Level) -> None:
    assert by_subject([judge_power_mode(answer)])["power mode"].level is level


@pytest.mark.parametrize(
    ("program", "level", "said"),
    [
        ('#!/bin/sh\n[ "$*" = -q ] && printf "NV Power Mode: MAXN_SUPER\\n2\\n"\n', Level.OK, "MAXN_SUPER"),
        ('#!/bin/sh\n[ "$*" = -q ] && printf "NV Power Mode: 15W\\n0\\n"\n', Level.ADVICE, "15W"),
        ("#!/bin/sh\necho NVPM ERROR: Error opening file >&2; exit 1\n", Level.ADVICE, "does not say"),
        ("#!/nowhere\n", Level.ADVICE, "does not say"),
    ],
)
def test_the_power_mode_is_asked_for_where_there_is_nvpmodel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, level: Level, said: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "power mode" not in by_subject(check_machine())
    path = tmp_path / "nvpmodel"
    path.write_text(program)
    path.chmod(0o755)
    found = by_subject(check_machine())["power mode"]
    assert found.level is level
    assert said in found.text


def test_one_core_is_few() -> None:
    assert by_subject([judge_cores(1, "x")])["machine"].level is Level.ADVICE
    assert by_subject([judge_cores(2, "x")])["machine"].level is Level.OK
