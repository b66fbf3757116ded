# SPDX-License-Identifier: Apache-2.0
"""PortAudio's side: which device is meant, what it can do, and blocks with the time at which they were taken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fixtures.sound import RATE, VirtualMicrophone

from karmma_ros.microphones.recording import taken_ago_s


def run(microphone: VirtualMicrophone | None, code: str, **environment: str) -> str:
    """What a program prints, as a process of its own: PortAudio reads its surroundings once, at start."""
    program = (
        "import time\nfrom karmma_ros.microphones.portaudio import *\nfrom karmma_ros.microphones.recording import *\n"
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
        block_s = 80 / {RATE}
        with Recording(find_input("virtmic"), {RATE}, 1, 80, time.time_ns) as recording:
            first = recording.read(1.0)
            end_s = time.monotonic() + 20
            while not recording._lost and time.monotonic() < end_s:
                time.sleep(0.05)
            blocks = [recording.read(1.0) for _ in range(600)]
        lost = [i for i, block in enumerate(blocks) if block.lost]
        assert len(lost) == 1, lost
        step_s = (blocks[lost[0]].taken_ns - blocks[lost[0] - 1].taken_ns) * 1e-9
        assert step_s > 1.5 * block_s, step_s
        print("told")
        """,
    )
    assert output == "told\n"


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
