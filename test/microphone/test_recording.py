# SPDX-License-Identifier: Apache-2.0
"""PortAudio's side: which device is meant, what it can do, and blocks with the time at which they were taken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.sound import RATE, VirtualMicrophone

from karmma_ros.microphones.microphone import Microphone, MicrophoneSettings
from karmma_ros.microphones.portaudio import InputDevice
from karmma_ros.microphones.recording import Recording, taken_ago_s


def run(microphone: VirtualMicrophone | None, code: str, **environment: str) -> str:
    """What a program prints, as a process of its own: PortAudio reads its surroundings once, at start."""
    program = (
        "import os, subprocess, threading, time\nfrom pathlib import Path\n"
        "from karmma_ros.microphones.portaudio import *\nfrom karmma_ros.microphones.recording import *\n"
        "from karmma_ros.microphones.microphone import *\n"
    )
    program += textwrap.dedent(code)
    around = os.environ | environment | (microphone.environment if microphone else {})
    done = subprocess.run(
        [sys.executable, "-c", program], env=around, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_devices_are_found_by_name_part_and_index(virtual_microphone: VirtualMicrophone) -> None:
    output = run(
        virtual_microphone,
        """
        whole = find_input("virtmic")
        assert find_input("VIRT") == find_input(str(whole.index)) == whole
        assert whole in inputs()
        assert find_input("").default
        for wanted in ("nobody", "u"):
            try:
                find_input(wanted)
            except AudioDeviceError as error:
                print(error)
        """,
    )
    nobody, several = output.splitlines()
    assert "no input device 'nobody': there are: 0 virtmic" in nobody
    assert "not clear" in several
    assert "pulse" in several


def test_what_a_device_takes_is_negotiated(virtual_microphone: VirtualMicrophone) -> None:
    run(
        virtual_microphone,
        """
        from dataclasses import replace
        device = find_input("virtmic")
        assert negotiate(device, 16000, 1) == (16000, 1)
        assert negotiate(device, 0, 2) == (device.rate, 2)
        assert negotiate(replace(device, channels=2), 16000, 0) == (16000, 2)
        assert negotiate(replace(device, channels=2), 16000, 8) == (16000, 2)
        rate, _ = negotiate(device, 768000, 1)  # more than PulseAudio takes
        assert rate == device.rate, rate
        try:
            negotiate(replace(device, index=99), 16000, 1)
        except AudioDeviceError as error:
            assert "cannot be opened" in str(error), error
        else:
            raise AssertionError
        """,
    )


def test_a_reader_that_is_too_slow_loses_blocks_and_is_told(virtual_microphone: VirtualMicrophone) -> None:
    """The queue holds 500 blocks, 2.5 s of these."""
    output = run(
        virtual_microphone,
        f"""
        block_s, never = 80 / {RATE}, threading.Event()
        with Recording(find_input("virtmic"), {RATE}, 1, 80, time.time_ns) as recording:
            first = recording.read(1.0, never)
            end_s = time.monotonic() + 20
            while not recording._lost and time.monotonic() < end_s:
                time.sleep(0.05)
            blocks = [recording.read(1.0, never) for _ in range(600)]
        lost = [i for i, block in enumerate(blocks) if block.lost]
        assert len(lost) == 1, lost
        step_s = (blocks[lost[0]].taken_ns - blocks[lost[0] - 1].taken_ns) * 1e-9
        assert step_s > 1.5 * block_s, step_s
        print("told")
        """,
    )
    assert output == "told\n"


class Stream:
    """A stream that is open and says nothing by itself."""

    time, latency = 100.0, 0.04

    def __init__(self, **settings: object) -> None: ...
    def start(self) -> None: ...


def test_samples_that_the_device_lost_are_told_once_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """PortAudio's flag, which no virtual device can be brought to raise."""
    module = SimpleNamespace(InputStream=Stream, PortAudioError=OSError)
    monkeypatch.setattr("karmma_ros.microphones.recording.sounddevice", lambda: module)
    device = InputDevice(0, "virtmic", "ALSA", 1, RATE, default=True)
    recording, never = Recording(device, RATE, 1, 80, time.time_ns), threading.Event()
    microphone = Microphone(MicrophoneSettings(), clock=time.time_ns, deliver=lambda chunk: None, say=print, warn=print)
    told = []
    for overflow in (False, True, False):
        times, flags = SimpleNamespace(inputBufferAdcTime=99.9), SimpleNamespace(input_overflow=overflow)
        recording._heard(np.zeros((80, 1), np.float32), 80, times, flags)
        block = recording.read(1.0, never)
        assert block is not None
        microphone._heard(block, 0)
        told.append((block.lost, microphone.status().overruns))
    assert told == [(False, 0), (True, 1), (False, 1)]


def test_a_sound_system_that_does_not_start_at_once_is_asked_again(virtual_microphone: VirtualMicrophone) -> None:
    """PortAudio has ended when it fails to start, and cannot be ended once more."""
    output = run(
        virtual_microphone,
        """
        settings = Path(os.environ["ALSA_CONFIG_PATH"].rpartition(":")[2])
        whole, torn = settings.with_name("whole"), settings.with_name("torn")
        torn.write_text("pcm.torn { [")
        rescan()
        settings.rename(whole)  # ALSA knows a file that has changed by its inode, within a second
        for part in (torn, torn, whole):
            settings.unlink(missing_ok=True)
            settings.symlink_to(part)
            try:
                rescan()
            except AudioDeviceError as error:
                print(error)
        assert find_input("virtmic").index == 0
        """,
    )
    started = [line.startswith("PortAudio cannot be started (Error initializing") for line in output.splitlines()]
    assert started == [True, True]
    assert all(line.endswith(": is the sound system running?") for line in output.splitlines()), "the remedy"


def test_a_device_that_does_not_start_is_let_go_of(virtual_microphone: VirtualMicrophone) -> None:
    """The error is made up; that the device is held by then, and not afterwards, is the sound server's word."""
    output = run(
        virtual_microphone,
        """
        import sounddevice

        def recorders():
            return subprocess.run(["pactl", "list", "short", "source-outputs"], capture_output=True, check=True).stdout

        class Refused(sounddevice.InputStream):
            def start(self):
                super().start()
                assert recorders()
                raise sounddevice.PortAudioError("refused")

        sounddevice.InputStream = Refused
        try:
            Recording(find_input("virtmic"), 16000, 1, 320, time.time_ns)
        except AudioDeviceError as error:
            print(error)
        assert not recorders()
        """,
    )
    assert "input device virtmic cannot be started: refused" in output


def test_a_silent_device_is_stopped_at_once(virtual_microphone: VirtualMicrophone) -> None:
    """With chunks of a second it would be waited for for ten: the driver does not hang, it has nothing."""
    run(
        virtual_microphone,
        """
        heard, warnings = threading.Event(), []
        microphone = Microphone(
            MicrophoneSettings("virtmic", chunk_s=1.0),
            clock=time.time_ns,
            deliver=lambda chunk: heard.set(),
            say=print,
            warn=warnings.append,
        )
        microphone.start()
        thread = microphone._thread
        assert heard.wait(20)
        subprocess.run(["pactl", "suspend-sink", "virtmic", "1"], check=True)
        microphone.stop()
        assert not warnings, warnings
        assert not thread.is_alive()
        """,
    )


def test_of_two_devices_with_one_name_the_one_chosen_by_index_stays(virtual_microphone: VirtualMicrophone) -> None:
    """Whoever takes the sound fails once, so that the device has to be found again."""
    output = run(
        virtual_microphone,
        """
        import sounddevice
        listed = sounddevice.query_devices
        sounddevice.query_devices = lambda *which: (
            listed(*which) if which else [device | {"name": "twin"} for device in listed()]
        )
        again, chunks = threading.Event(), []

        def deliver(chunk):
            chunks.append(chunk)
            if len(chunks) == 1:
                raise RuntimeError("once")
            again.set()

        microphone = Microphone(
            MicrophoneSettings("1"), clock=time.time_ns, deliver=deliver, say=print, warn=print
        )
        assert len([device for device in inputs() if device.name == "twin"]) > 1
        microphone.start()
        assert again.wait(20)
        assert microphone.status().connections == 2
        microphone.stop()
        """,
    )
    assert output.count("recording from twin (index 1, ") == 2


def test_a_process_that_lacks_portaudio_is_told_what_to_install(tmp_path: Path) -> None:
    for text, remedy in {
        "raise OSError('PortAudio library not found')": "apt install libportaudio2",
        "raise ModuleNotFoundError(\"No module named 'sounddevice'\", name='sounddevice')": "pip install sounddevice",
        "raise RuntimeError('Error initializing PortAudio: Host error')": "cannot be started",
    }.items():
        (tmp_path / "sounddevice.py").write_text(text)
        path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        code = """
            try:
                inputs()
            except AudioDeviceError as error:
                print(error)
            """
        assert remedy in run(None, code, PYTHONPATH=path)


@pytest.mark.parametrize(
    ("adc_s", "stream_s", "expected"),
    [
        (100.0, 100.05, (0.05, True)),
        (100.0, 103.0, (3.0, True)),  # this process stood still
        (100.01, 100.0, (-0.01, True)),  # a monitor of what is played knows what comes
        (0.0, 100.0, (0.02, False)),  # the driver does not know
        (100.0, 0.0, (0.02, False)),
        (5.0, 1.7e9, (0.02, False)),  # two different clocks
        (1.7e9, 5.0, (0.02, False)),
    ],
)
def test_times_that_cannot_be_are_replaced_by_the_arrival(
    adc_s: float, stream_s: float, expected: tuple[float, bool]
) -> None:
    age_s, by_adc = taken_ago_s(adc_s, stream_s, 0.02)
    assert by_adc is expected[1]
    assert age_s == pytest.approx(expected[0])
