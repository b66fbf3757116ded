# SPDX-License-Identifier: Apache-2.0
"""A configuration as YAML, and `key=value` overrides: names and types are checked, faults named in one line."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file
from karmma_training.config import Config

__all__ = ["apply_overrides", "load_config", "save_config"]

T = TypeVar("T")


def apply_overrides(config: Config, overrides: list[str]) -> Config:
    """A copy of `config` with `section.key=value` strings applied; values are read as YAML.

    :raises UsageError: unknown key, or a value of the wrong type.
    """
    tree = dataclasses.asdict(config)
    for item in overrides:
        path, sign, text = item.partition("=")
        if not sign:
            raise UsageError(f"--set {item}: expected section.key=value, e.g. train.lr=0.001")
        *parents, leaf = path.strip().split(".")
        node = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], dict):
            known = [f"{k}.{leaf_}" for k, v in tree.items() if isinstance(v, dict) for leaf_ in v] + list(tree)
            close = difflib.get_close_matches(path, known, n=1)
            raise UsageError(f"--set {item}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError:
            node[leaf] = text
    return _build(Config, tree, "--set")


def load_config(path: Path) -> Config:
    """Read a configuration from YAML.

    :raises UsageError: unreadable file, unknown key, wrong type.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        raise UsageError(f"cannot read {path}: {error}") from error
    return _build(Config, {} if tree is None else tree, str(path))


def save_config(config: Config, path: Path) -> None:
    """Write a configuration as YAML."""
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))


def _build(cls: type[T], tree: dict[str, Any], where: str) -> T:
    """Build a dataclass from plain values, checking names and types."""
    hints = typing.get_type_hints(cls)
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: {cls.__name__} must be names and values, not {tree!r}")
    unknown = [name for name in tree if name not in hints]
    if unknown:
        raise UsageError(f"{where}: unknown setting {unknown[0]!r} in {cls.__name__}")
    values: dict[str, Any] = {}
    for name, value in tree.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), {} if value is None else value, where)
        else:
            values[name] = _checked(hint, value, f"{where}: {name}")
    return cls(**values)


def _checked(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) is list:
        (inner,) = typing.get_args(hint)
        items = value if isinstance(value, list) else [value]
        return [_checked(inner, item, where) for item in items]
    if isinstance(hint, types.UnionType):
        raise TypeError(f"{where}: union types are not supported in the configuration")
    if hint is float:
        try:  # YAML reads 1e-3 as a string
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{where} must be a number, not {value!r}") from None
    if hint is str and value is None:  # as YAML reads `key:`, and `--set key=`
        return ""
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UsageError(f"{where} must be {hint.__name__}, not {value!r}")
    return value
