# SPDX-License-Identifier: Apache-2.0
"""Parameters as a table: default, range and description of each, declared on a node and checked in one place.

A node's own module holds its table and the typed settings that come out of it (`parameters` for action_node).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from karmma_ros.errors import UsageError

__all__ = ["Declaration", "Value", "declare", "problem", "values"]

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class Declaration:
    """One parameter; `least` and `most` bound a number, `choices` a text or each text of a list."""

    default: Value
    description: str
    least: float | None = None
    most: float | None = None
    step: int = 0
    choices: tuple[str, ...] = ()
    live: bool = False  # may change while the node runs; others are read again by cleanup + configure, or are read-only
    read_only: bool = False
    or_number: bool = False  # a text that may be given as a whole number of at least 0, too

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows, and what rclpy checks values by."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=self.read_only, dynamic_typing=self.or_number
        )
        if self.choices:
            each = "each " if isinstance(self.default, list) else ""
            descriptor.additional_constraints = f"{each}one of " + ", ".join(self.choices)
        if self.least is not None and self.most is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.least), to_value=int(self.most), step=self.step)
                ]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.least), to_value=float(self.most), step=0.0)
                ]
        return descriptor


def declare(node: Node, table: Mapping[str, Declaration]) -> None:
    """Declares all parameters of a table, and refuses values that it does not allow from then on.

    :raises UsageError: a value given to the node has the wrong type or is out of range; the line names the parameter.
    """
    for name, declaration in table.items():
        try:
            value = node.declare_parameter(name, declaration.default, declaration.descriptor()).value
        except InvalidParameterTypeException:
            raise UsageError(f"parameter {name} has the wrong type: it must be {_kind(declaration)}") from None
        except InvalidParameterValueException:
            raise UsageError(
                f"parameter {name} is out of range: it must be {_kind(declaration)} "
                f"from {declaration.least:g} to {declaration.most:g}"
                + (f" by {declaration.step}" * bool(declaration.step))
            ) from None
        fault = problem(table, name, value)
        if fault:
            raise UsageError(fault)

    def check(parameters: list[Parameter]) -> SetParametersResult:
        faults = [fault for p in parameters if (fault := problem(table, p.name, p.value))]
        return SetParametersResult(successful=not faults, reason="; ".join(faults))

    node.add_on_set_parameters_callback(check)


def problem(table: Mapping[str, Declaration], name: str, value: object) -> str:
    """What is wrong with a value that fits the parameter's type and range, or ""; "" too for what is in no table."""
    declaration = table.get(name)
    if declaration is None:
        return ""
    if declaration.or_number and not isinstance(value, str) and (type(value) is not int or value < 0):
        return f"parameter {name} is {value!r}: it must be a text or a whole number of at least 0"
    if not declaration.choices:
        return ""
    if not isinstance(declaration.default, list):
        if value in declaration.choices:
            return ""
        return f"parameter {name} is {value!r}: it must be one of {', '.join(declaration.choices)}"
    entries = value if isinstance(value, list | tuple) else ()
    unknown = [entry for entry in entries if entry not in declaration.choices]
    return f"parameter {name} names {unknown[0]!r}: known are {', '.join(declaration.choices)}" if unknown else ""


def values(node: Node, table: Mapping[str, Declaration]) -> dict[str, Any]:
    """The parameters' values on a node where `declare` has run, by field name: a dot becomes `_`, a list a tuple, and a
    number given for a text a text."""
    current = {}
    for name, declaration in table.items():
        value = node.get_parameter(name).value
        if declaration.or_number:
            value = str(value)
        current[name.replace(".", "_")] = tuple(value) if isinstance(value, list) else value
    return current


def _kind(declaration: Declaration) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number with a decimal point (5.0, not 5)"}
    return kinds.get(
        type(declaration.default), "a list of texts" if isinstance(declaration.default, list) else "a text"
    )
