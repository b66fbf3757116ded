# SPDX-License-Identifier: Apache-2.0
"""The action node where ONNX Runtime says that it has CUDA, and finds that it has not when a graph is loaded."""

from __future__ import annotations

import sys

import onnxruntime

from karmma_ros.nodes.action_node import ActionNode, run

if __name__ == "__main__":
    onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    sys.exit(run(ActionNode))
