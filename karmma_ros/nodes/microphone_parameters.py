# SPDX-License-Identifier: Apache-2.0
"""The parameters of microphone_node."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node

from karmma_ros.microphones.microphone import MicrophoneSettings
from karmma_ros.nodes.declarations import Declaration, values

__all__ = ["PARAMETERS", "Settings"]

_AT_ACTIVATION = "Takes effect at the next activation."

PARAMETERS: dict[str, Declaration] = {
    "autostart": Declaration(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", read_only=True
    ),
    "device": Declaration(
        "",
        "Input device: its name, a part of it that no other has, or its index (`karmma doctor` lists them); "
        "empty is the default device. " + _AT_ACTIVATION,
        or_number=True,
    ),
    "rate": Declaration(
        16_000,
        "[Hz] sample rate wanted; 0 is the device's own. What it cannot do is replaced. " + _AT_ACTIVATION,
        0,
        768_000,
    ),
    "channels": Declaration(1, "Channels wanted; 0 is all that the device has. " + _AT_ACTIVATION, 0, 64),
    "chunk": Declaration(
        0.02, "[s] of sound in a message: a node hears of it only when it is full. " + _AT_ACTIVATION, 0.005, 0.2
    ),
    "frame_id": Declaration("microphone", "frame_id of the messages. " + _AT_ACTIVATION),
    "longest_wait": Declaration(
        5.0, "[s] between two attempts to connect, at most; the first comes after 0.5 s. " + _AT_ACTIVATION, 0.5, 600.0
    ),
}


@dataclass(frozen=True)
class Settings:
    """The parameters' values at one moment."""

    autostart: bool
    device: str
    rate: int
    channels: int
    chunk: float
    frame_id: str
    longest_wait: float

    @classmethod
    def of(cls, node: Node) -> Settings:
        """Reads them from a node that has declared them."""
        return cls(**values(node, PARAMETERS))

    def microphone(self) -> MicrophoneSettings:
        """What is wanted of the microphone."""
        return MicrophoneSettings(
            device=self.device,
            rate=self.rate,
            channels=self.channels,
            chunk_s=self.chunk,
            longest_wait_s=self.longest_wait,
        )
