# SPDX-License-Identifier: Apache-2.0
"""microphone_node as its own process on a virtual device: a tone that is played there is what a subscriber hears."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.sound import RATE, VirtualMicrophone
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node.harness import Process, Robot, node_and_robot, ns_of, start, value
from rclpy.qos import QoSProfile

from karmma_msgs.msg import Audio
from karmma_ros.microphones.microphone import MicrophoneState, MicrophoneStatus
from karmma_ros.nodes.microphone_node import _judge

NODE = "karmma_ros.nodes.microphone_node"
PLAYER = Path(__file__).parents[1] / "microphone" / "play_tone.py"
HERTZ, AMPLITUDE, SECONDS = 440.0, 0.5, 1.0


class Ear:
    """Hears `audio` on a robot and keeps it."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.chunks: list[Audio] = []
        robot.node.create_subscription(Audio, "audio", lambda m: robot._keep(self.chunks, m), QoSProfile(depth=200))

    def wait_for_sound_at(self, stamp_ns: int) -> None:
        """Waits until sound of that time has been heard."""
        self._robot.wait("later sound", lambda: self.chunks and ns_of(self.chunks[-1].header.stamp) > stamp_ns)

    def since(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Sound from a time on: times of the samples [ns] (n,), the first channel (n,)."""
        times, samples = [], []
        for chunk in list(self.chunks):
            first = np.asarray(chunk.samples, np.float32).reshape(-1, chunk.channels)[:, 0]
            times.append(ns_of(chunk.header.stamp) + np.arange(len(first)) * 10**9 // chunk.sample_rate)
            samples.append(first)
        at, heard = np.concatenate(times), np.concatenate(samples)
        return at[at >= stamp_ns], heard[at >= stamp_ns]

    def onset_ns(self, near_ns: int) -> int:
        """When the tone that is played around a time begins [ns]."""
        at, sound = self.since(near_ns - 300_000_000)
        return int(at[np.argmax(np.abs(sound) > AMPLITUDE / 10)])

    def steps_ms(self) -> list[float]:
        """Between the stamps of consecutive chunks, beyond the chunks' own length."""
        return [
            (ns_of(b.header.stamp) - ns_of(a.header.stamp)) / 1e6 - len(a.samples) / a.channels / a.sample_rate * 1e3
            for a, b in pairwise(self.chunks)
        ]


@contextmanager
def recording(
    microphone: VirtualMicrophone, log: Path, ros_env: dict[str, str], **parameters: Any
) -> Iterator[tuple[Process, Robot, Ear]]:
    """A running microphone_node and somebody who hears it."""
    environment = ros_env | microphone.environment
    with node_and_robot(log, environment, module=NODE, **{"device": microphone.name} | parameters) as (process, robot):
        ear = Ear(robot)
        robot.wait("sound", lambda: ear.chunks)
        yield process, robot, ear


def play(microphone: VirtualMicrophone, hertz: float = HERTZ, amplitude: float = AMPLITUDE) -> int:
    """Plays a tone; returns when its first sample left the device [ns]."""
    command = [sys.executable, str(PLAYER), str(hertz), str(amplitude), str(SECONDS)]
    environment = os.environ | microphone.environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("chunk", [0.02, 0.2])
def test_a_tone_is_heard_with_its_frequency_level_and_time(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str], chunk: float
) -> None:
    """With long chunks, stamps by arrival would be off by their length."""
    with recording(virtual_microphone, tmp_path / "log", ros_env, chunk=chunk) as (_, _, ear):
        first = ear.chunks[0]
        assert (first.sample_rate, first.channels, first.header.frame_id) == (RATE, 1, "microphone")
        assert len(first.samples) == round(chunk * RATE)
        played_ns = play(virtual_microphone)
        ear.wait_for_sound_at(played_ns + round((SECONDS + 0.1) * 1e9))

        heard_ns = ear.onset_ns(played_ns)
        assert abs(heard_ns - played_ns) < 10_000_000
        at, sound = ear.since(played_ns - 300_000_000)
        middle = sound[(at > heard_ns + 100_000_000) & (at < heard_ns + 900_000_000)]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(HERTZ, abs=2)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(AMPLITUDE / np.sqrt(2), rel=0.02)
        assert np.abs(sound[at < heard_ns - 50_000_000]).max() < 1e-3  # and nothing before
        assert all(abs(step) < 5 for step in ear.steps_ms())


def test_levels_device_and_format_are_in_the_diagnostics(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    with recording(virtual_microphone, tmp_path / "log", ros_env, channels=2, rate=48_000) as (process, r, ear):
        assert (ear.chunks[0].sample_rate, ear.chunks[0].channels) == (48_000, 2)
        status = r.wait_status("silence", "microphone_node", lambda s: value(s, "peak_dbfs") == "-inf")
        assert (status.level, status.hardware_id, value(status, "rate_hz")) == (b"\x00", "virtmic", "48000")
        assert (value(status, "channels"), value(status, "stamps_from")) == ("2", "adc")
        with subprocess.Popen(
            [sys.executable, str(PLAYER), "1000", "0.1", "4"],
            env=os.environ | virtual_microphone.environment,
            stdout=subprocess.DEVNULL,
        ):
            # A sine of amplitude 0.1: peak -20 dBFS, rms -23 dBFS.
            status = r.wait_status(
                "the tone's level", "microphone_node", lambda s: abs(float(value(s, "rms_dbfs") or 0) + 23.0) < 0.3
            )
            assert float(value(status, "peak_dbfs") or 0) == pytest.approx(-20.0, abs=0.3)
        assert "48000 Hz, channels: 2" in process.output


@pytest.mark.parametrize("alone", [False, True], ids=["with its server", "alone"])
def test_a_device_that_goes_and_comes_is_recorded_again(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str], alone: bool
) -> None:
    unplug = virtual_microphone.unplug_alone if alone else virtual_microphone.unplug
    plug_in = virtual_microphone.plug_in_alone if alone else virtual_microphone.plug_in
    with recording(virtual_microphone, tmp_path / "log", ros_env, longest_wait=1.0) as (process, r, ear):
        unplug()
        status = r.wait_status("the loss", "microphone_node", lambda s: s.level == b"\x02")
        assert "virtmic" in status.message
        assert (value(status, "state"), value(status, "microphone")) == ("active", "lost")
        gone_at = len(ear.chunks)
        plug_in()
        r.wait("sound again", lambda: len(ear.chunks) > gone_at)
        r.wait_status("no error", "microphone_node", lambda s: s.level == b"\x00" and value(s, "connections") == "2")
        steps = ear.steps_ms()
        assert sum(abs(step) > 20 for step in steps) == 1  # the time without a device is a gap in the stamps
        played_ns = play(virtual_microphone)
        ear.wait_for_sound_at(played_ns + 500_000_000)
        assert abs(ear.onset_ns(played_ns) - played_ns) < 10_000_000
        assert "Traceback" not in process.output


def test_a_device_that_comes_later_is_waited_for(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    virtual_microphone.unplug()
    environment = ros_env | virtual_microphone.environment
    with node_and_robot(tmp_path / "log", environment, module=NODE, device="virtmic", longest_wait=0.5) as (_, r):
        ear = Ear(r)
        status = r.wait_status("waiting", "microphone_node", lambda s: s.level == b"\x02")
        assert "no input device 'virtmic'" in status.message
        virtual_microphone.plug_in()
        r.wait("sound", lambda: ear.chunks)


def test_sound_that_was_taken_while_the_process_stood_still_has_its_own_time(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    with recording(virtual_microphone, tmp_path / "log", ros_env, chunk=0.1) as (process, r, ear):
        process.popen.send_signal(signal.SIGSTOP)
        played_ns = play(virtual_microphone)
        process.popen.send_signal(signal.SIGCONT)
        heard_at = len(ear.chunks)
        ear.wait_for_sound_at(played_ns + 1_500_000_000)
        assert len(ear.chunks) - heard_at > 10
        assert abs(ear.onset_ns(played_ns) - played_ns) < 10_000_000
        assert all(abs(step) < 5 for step in ear.steps_ms())
        r.wait_status("nothing lost", "microphone_node", lambda s: value(s, "overruns") == "0")


def test_deactivation_lets_go_of_the_device_and_activation_takes_it_again(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    with recording(virtual_microphone, tmp_path / "log", ros_env) as (_, r, ear):
        client = r.node.create_client(ChangeState, "/microphone_node/change_state")

        def change(transition: int) -> bool:
            return r._call(client, ChangeState.Request(transition=Transition(id=transition))).success

        for _ in range(5):
            assert change(Transition.TRANSITION_DEACTIVATE)
            assert virtual_microphone.recorders() == 0
            silent_at = len(ear.chunks)
            assert change(Transition.TRANSITION_ACTIVATE)
            r.wait("sound again", lambda at=silent_at: len(ear.chunks) > at + 1)
        assert not change(Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str], sent: signal.Signals
) -> None:
    with recording(virtual_microphone, tmp_path / "log", ros_env) as (process, _, _):
        process.end_in_time(sent)
        assert "trying again" not in process.output


def test_the_node_ends_in_time_while_the_driver_hangs(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    """The sound server stands still, and whoever wants to close the device waits for it."""
    server = int(Path(virtual_microphone.environment["XDG_RUNTIME_DIR"], "pulse", "pid").read_text())
    with recording(virtual_microphone, tmp_path / "log", ros_env) as (process, _, _):
        os.kill(server, signal.SIGSTOP)
        try:
            process.end_in_time(signal.SIGTERM)
        finally:
            os.kill(server, signal.SIGCONT)
        assert "driver hangs" in process.output


def test_a_device_may_be_given_by_its_index(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, ros_env: dict[str, str]
) -> None:
    with recording(virtual_microphone, tmp_path / "log", ros_env, device=0) as (_, r, _):
        r.wait_status("its name", "microphone_node", lambda s: s.hardware_id == "virtmic" and value(s, "index") == "0")


def test_overruns_are_a_warning_in_the_report_after_them() -> None:
    before = MicrophoneStatus(MicrophoneState.RECORDING, overruns=1)
    status = replace(before, overruns=3)
    level, message = _judge(status, before)
    assert level == b"\x01"
    assert "sound was lost 2 times: relieve the machine" in message
    assert _judge(status, status) == (b"\x00", "recording")


@pytest.mark.parametrize(("name", "given"), [("rate", "-1"), ("device", "-2")])
def test_a_wrong_parameter_is_said_and_ends_the_node(
    tmp_path: Path, ros_env: dict[str, str], name: str, given: str
) -> None:
    process = start(tmp_path / "log", ros_env, module=NODE, **{name: given})
    assert process.popen.wait(60) == 2
    assert f"parameter {name}" in process.output.splitlines()[-1]
    assert "Traceback" not in process.output


def test_without_portaudio_the_node_lives_and_says_what_to_install(tmp_path: Path, ros_env: dict[str, str]) -> None:
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    environment = ros_env | {"PYTHONPATH": f"{hiding}{os.pathsep}{ros_env.get('PYTHONPATH', '')}"}
    with node_and_robot(tmp_path / "log", environment, module=NODE) as (_, r):
        status = r.wait_status("the remedy", "microphone_node", lambda s: s.level == b"\x02")
        assert "apt install libportaudio2" in status.message
        assert value(status, "state") == "unconfigured"
