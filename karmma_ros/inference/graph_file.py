# SPDX-License-Identifier: Apache-2.0
"""Finds out whether an ONNX file keeps weights in other files, before ONNX Runtime would go and read those.

An ONNX tensor may name any path as the place of its data (`external_data`), and versions of ONNX Runtime differ in
where they look. A bundle's graphs carry their weights inside, so a graph that names a file is refused unread. This
walks the few protobuf fields of `onnx.proto` that can hold a tensor; the robot does not need the onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["has_external_data"]

_DATA_LOCATION, _EXTERNAL_DATA = 14, 13  # in TensorProto
_EXTERNAL = 1  # TensorProto.DataLocation

# Message -> {field number -> message in that field}, from onnx.proto3.
_NESTED: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}


def has_external_data(model: bytes) -> bool:
    """True when some tensor of a serialised ONNX model says that its data lies in another file.

    :raises ValueError: not a serialised ONNX model.
    """
    pending = [("Model", memoryview(model))]
    seen_graph = False
    while pending:
        message, data = pending.pop()
        nested = _NESTED[message]
        for number, value in _fields(data):
            if message == "Tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == _EXTERNAL):
                    return True
            elif number in nested and isinstance(value, memoryview):
                seen_graph = seen_graph or nested[number] == "Graph"
                pending.append((nested[number], value))
    if not seen_graph:
        raise ValueError("no graph in it")
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, varint or bytes) of one message; fixed-size numbers are passed over."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == 2:
            size, position = _varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not protobuf")
        end = position + size
        if end > len(data):
            raise ValueError("cut short")
        if kind == 2:
            yield number, data[position:end]
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position
    raise ValueError("not protobuf")
