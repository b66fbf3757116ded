# SPDX-License-Identifier: Apache-2.0
"""Quality of service of this package's topics; users may override each by parameter (`qos_overrides`)."""

from __future__ import annotations

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

__all__ = ["latched", "overridable", "sensor"]


def sensor(depth: int = 1) -> QoSProfile:
    """Of a subscription to a sensor: whatever comes is taken, and the newest matters."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def latched() -> QoSProfile:
    """Sent once, received by late subscribers too."""
    return QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def overridable() -> QoSOverridingOptions:
    """Reliability, history and depth by parameter, as ROS 2's documentation has it."""
    return QoSOverridingOptions.with_default_policies()
