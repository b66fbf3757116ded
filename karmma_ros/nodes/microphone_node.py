# SPDX-License-Identifier: Apache-2.0
"""A microphone as a ROS 2 node: sound from PortAudio to `audio`.

    ros2 run karmma_ros microphone_node --ros-args -p device:=USB

A lifecycle node that starts itself (see `lifecycle`). It stays active while the device is gone, and goes on when it is
back.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile

from karmma_msgs.msg import Audio
from karmma_ros.messages import stamp_to_msg
from karmma_ros.microphones.microphone import Chunk, Microphone, MicrophoneState, MicrophoneStatus
from karmma_ros.microphones.portaudio import sounddevice
from karmma_ros.nodes import process, qos
from karmma_ros.nodes.diagnostics import status_of
from karmma_ros.nodes.lifecycle import ManagedNode
from karmma_ros.nodes.microphone_parameters import PARAMETERS, Settings

__all__ = ["MicrophoneNode", "main"]

# Reliable: whoever listens, by best effort or reliably, and records, gets every chunk. 50 chunks are what action_node
# keeps, too; a subscriber that is slower than that misses chunks instead of holding up the others.
_QOS = QoSProfile(depth=50)


class MicrophoneNode(ManagedNode):
    """The topic and the diagnostics around a `Microphone`."""

    def __init__(self, **kwargs: Any) -> None:
        """:raises UsageError: a parameter given to the node is not valid; the line names it."""
        self._microphone: Microphone | None = None
        self._sounds: Any = None
        self._frame_id = ""
        self._reported = MicrophoneStatus()
        super().__init__("microphone_node", PARAMETERS, **kwargs)

    # --- life cycle --------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        sounddevice()  # without PortAudio no waiting helps
        self._sounds = self.create_lifecycle_publisher(Audio, "audio", _QOS, qos_overriding_options=qos.overridable())

    def _activate(self) -> None:
        settings = Settings.of(self)
        self._frame_id = settings.frame_id
        self._reported = MicrophoneStatus()
        self._microphone = Microphone(
            settings.microphone(),
            clock=lambda: self.get_clock().now().nanoseconds,
            deliver=self._publish,
            say=self.get_logger().info,
            warn=self.get_logger().warning,
        )
        self._microphone.start()

    def _silence(self) -> None:
        if self._microphone is not None:
            self._microphone.stop()
            self._microphone = None

    def _release(self) -> None:
        self._silence()
        if self._sounds is not None:
            self.destroy_lifecycle_publisher(self._sounds)
            self._sounds = None

    def _restart(self) -> None:
        """A clock that was set shows in the measured times, and the stamps follow it."""

    def _settings_changed(self) -> None:
        """Nothing changes while it records."""

    # --- output ------------------------------------------------------------------------------------------------------

    def _publish(self, chunk: Chunk) -> None:
        message = Audio(sample_rate=chunk.rate, channels=chunk.samples.shape[1])
        message.header.stamp = stamp_to_msg(chunk.stamp_ns)
        message.header.frame_id = self._frame_id
        message.samples = array.array("f", chunk.samples.tobytes())
        try:
            self._sounds.publish(message)
        except Exception:
            if self.context.ok():  # at shutdown the publisher may go first
                raise

    def _statuses(self) -> list[DiagnosticStatus]:
        state = self._lifecycle_state
        level, message, hardware = DiagnosticStatus.OK, state, ""
        values: dict[str, Any] = {"state": state}
        if self._fault:
            level, message = DiagnosticStatus.ERROR, f"{state}: {self._fault}"
        elif self._microphone is not None:
            status, before = self._microphone.status(), self._reported
            self._reported = status
            level, message = _judge(status, before)
            hardware = status.device.name if status.device is not None else ""
            values |= _values(status)
        return [status_of(self.full_name, level, message, hardware, values)]


def _judge(status: MicrophoneStatus, before: MicrophoneStatus) -> tuple[bytes, str]:
    if status.state is MicrophoneState.LOST:
        return DiagnosticStatus.ERROR, f"lost: {status.fault}; trying again"
    if status.state is not MicrophoneState.RECORDING:
        return DiagnosticStatus.WARN, status.state.value
    lost = status.overruns - before.overruns
    if lost:
        return (
            DiagnosticStatus.WARN,
            f"overruns: sound was lost {lost} times: relieve the machine, or raise chunk (to 0.2 s at most)",
        )
    return DiagnosticStatus.OK, status.state.value


def _values(status: MicrophoneStatus) -> dict[str, Any]:
    device = status.device
    return {
        "microphone": status.state.value,
        "device": device.name if device is not None else "",
        "index": device.index if device is not None else "",
        "rate_hz": status.rate,
        "channels": status.channels,
        "latency_ms": f"{status.latency_s * 1e3:.1f}",
        "stamps_from": "adc" if status.by_adc else "arrival",
        "rms_dbfs": f"{status.levels.rms_dbfs:.1f}",
        "peak_dbfs": f"{status.levels.peak_dbfs:.1f}",
        "chunks": status.chunks,
        "overruns": status.overruns,
        "clock_jumps": status.jumps,
        "connections": status.connections,
        "fault": status.fault,
    }


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run karmma_ros microphone_node`."""
    return process.run(MicrophoneNode, "microphone_node", args, start=MicrophoneNode.autostart)


if __name__ == "__main__":
    sys.exit(main())
