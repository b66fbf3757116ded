# SPDX-License-Identifier: Apache-2.0
"""Predictions as vision_msgs, where that package is installed: for tools that know no messages of ours.

`~/classification` (vision_msgs/Classification) beside each ActionPrediction, and `~/label_info` (vision_msgs/LabelInfo,
latched), in which a `class_id` finds its name.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from karmma_ros.manifest import Manifest
from karmma_ros.messages import PredictionRecord, stamp_to_msg
from karmma_ros.nodes import qos

try:
    from vision_msgs import msg as installed
except ImportError:
    installed = None

__all__ = ["VisionOutput", "classification", "label_info"]

_MOST_CLASSES = 65_535  # LabelInfo counts in 16 bits, and the last number is taken


class VisionOutput:
    """The two topics; nothing at all where vision_msgs is not installed."""

    def __init__(
        self,
        node: Node,
        manifest: Manifest,
        outputs: list[Publisher],
        types: ModuleType | Any | None = installed,
    ) -> None:
        """:param outputs: where the publishers go, each as soon as it is there.
        :param types: the module with the message types, None where there is none.
        """
        self._types = types
        self._results: Publisher | None = None
        if types is None or len(manifest.action_names) > _MOST_CLASSES:
            return
        overridable = qos.overridable()
        labels = node.create_publisher(
            types.LabelInfo, "~/label_info", qos.latched(), qos_overriding_options=overridable
        )
        outputs.append(labels)
        self._results = node.create_publisher(
            types.Classification, "~/classification", QoSProfile(depth=10), qos_overriding_options=overridable
        )
        outputs.append(self._results)
        labels.publish(label_info(manifest, types))

    def publish(self, record: PredictionRecord) -> None:
        """Publishes a prediction, if anybody listens."""
        if self._results is not None and self._results.get_subscription_count() > 0:
            self._results.publish(classification(record, self._types))


def label_info(manifest: Manifest, types: Any) -> Any:
    """A bundle's actions, by the number that is their `class_id`."""
    return types.LabelInfo(
        class_map=[
            types.VisionClass(class_id=index, class_name=name) for index, name in enumerate(manifest.action_names)
        ]
    )


def classification(record: PredictionRecord, types: Any) -> Any:
    """A prediction's actions, best first. No results: there is no prediction, or the best is `unknown`."""
    actions = record.prediction.actions
    known = actions if actions and actions[0].id >= 0 else ()
    message = types.Classification(
        results=[types.ObjectHypothesis(class_id=str(label.id), score=float(label.score)) for label in known]
    )
    message.header.stamp = stamp_to_msg(record.stamp_ns)
    message.header.frame_id = record.frame_id
    return message
