# SPDX-License-Identifier: Apache-2.0
"""Which sensors a bundle needs, with these settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karmma_ros.errors import UsageError
from karmma_ros.manifest import ModalitySpec
from karmma_ros.nodes.computed_flow import ComputedFlow
from karmma_ros.nodes.parameters import Settings
from karmma_ros.nodes.sensors import AudioSensor, CameraSensor, DetectionsSensor, FlowSensor, Sensor

__all__ = ["make_sensors"]

CLIP_HELD = 8  # messages kept of what is seen as clips: what a slow machine has no time to predict for is in them


def make_sensors(modalities: Mapping[str, ModalitySpec], settings: Settings) -> dict[str, Sensor[Any]]:
    """A sensor for each modality of the bundle, in its order.

    :raises KarmmaError: with these settings there can be no such sensor.
    """

    def make(spec: ModalitySpec) -> Sensor[Any]:
        if spec.name == FlowSensor.name and settings.flow_compute:
            return _computed(spec, modalities, settings)
        if spec.name == DetectionsSensor.name:
            return DetectionsSensor(settings, spec.categories)
        return known[spec.name](settings)

    known: dict[str, type[Sensor[Any]]] = {kind.name: kind for kind in (CameraSensor, FlowSensor, AudioSensor)}
    sensors = {name: make(spec) for name, spec in modalities.items()}
    for name, sensor in sensors.items():
        if isinstance(sensor, CameraSensor | FlowSensor) and modalities[name].context > 1:
            sensor.held = CLIP_HELD
    return sensors


def _computed(flow: ModalitySpec, modalities: Mapping[str, ModalitySpec], settings: Settings) -> ComputedFlow:
    seen = CameraSensor.name in modalities
    if flow.producer is not None and seen:
        return ComputedFlow(settings, flow.producer, CameraSensor(settings).topic)
    lacking = "does not say how its flow was computed" if seen else "takes no video to compute it from"
    raise UsageError(
        f"flow.compute is true, but this bundle {lacking}: set flow.compute to false (flow_from:=topic in the "
        f"launch file), and publish the flow on the topic {FlowSensor.topic}"
    )
