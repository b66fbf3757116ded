# SPDX-License-Identifier: Apache-2.0
"""How ONNX Runtime runs a graph: sessions, execution providers, TensorRT's engines. `karmma_ros.runtime` uses it."""
