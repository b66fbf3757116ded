# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle's manifest (`bundle.json`) field by field, and refuses anything that is not exactly what it should be.

A bundle may come from anywhere; its manifest decides how much memory is reserved and which files are read. So every
field has a type and a range here, unknown and repeated fields are refused, and a fault is told with the field's path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from karmma_ros.detections import BOX
from karmma_ros.errors import BundleError
from karmma_ros.window import SlotSpec

__all__ = [
    "MODALITIES",
    "SCHEMA",
    "CheckSpec",
    "GraphSpec",
    "InputSpec",
    "Manifest",
    "ModalitySpec",
    "ProducerSpec",
    "action_name",
    "decode_manifest",
    "parse_manifest",
]

SCHEMA = 1
MODALITIES = ("video", "flow", "audio", "detections")  # what this version has preprocessing for
MAX_BYTES = 1_000_000
_MAX_DEPTH = 8
_MAX_WINDOW_FLOATS = 4_000_000  # in one modality's window and a second more: the memory a bundle can claim
_MAX_BOXES = 1_000
_MAX_CLIP_PIXELS = 2**24  # of all frames that an extractor takes at once; a few times as many are kept

T = TypeVar("T")


@dataclass(frozen=True)
class GraphSpec:
    """A graph's file in the bundle's folder."""

    graph: str  # plain file name
    sha256: str  # of the file, 64 lower-case hex digits
    precision: str  # fp32, fp16 or int8


@dataclass(frozen=True)
class InputSpec:
    """What an extractor takes; the batch axis is left out of `shape`."""

    dtype: str  # uint8 or float32
    shape: tuple[int, ...]  # video (T, H, W, 3); flow (T, H, W, 2); audio (n,); detections (T, boxes, 6)
    resize: str = ""  # "squash": to the shape, whatever the aspect; empty for audio and detections
    interpolation: str = ""  # "area"; empty for audio and detections

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of video and flow."""
        return self.shape[-3], self.shape[-2]


@dataclass(frozen=True)
class ProducerSpec:
    """How the flow that the extractor was trained on was computed."""

    algorithm: str  # "dis"
    preset: str  # ultrafast, fast or medium
    size: tuple[int, int]  # (width, height) at which it was computed


@dataclass(frozen=True)
class ModalitySpec(GraphSpec):
    """One modality of a bundle: its extractor and its slots."""

    name: str
    input: InputSpec
    rate: int  # [Hz] of the audio samples; 0 where the sensor sets it
    context: int  # samples that one run of the extractor sees
    context_step_s: float  # [s] from one frame, or flow field, of a longer context to the next; otherwise 0
    slot_spec: SlotSpec
    producer: ProducerSpec | None = None  # flow only
    categories: tuple[str, ...] = ()  # detections only: names of the kinds of objects

    @property
    def spacing_s(self) -> float:
        """[s] between slots."""
        return self.slot_spec.spacing_s

    @property
    def slots(self) -> int:
        """Slots in the window."""
        return self.slot_spec.slots

    @property
    def delay_s(self) -> float:
        """[s] from the time of the prediction back to slot 0."""
        return self.slot_spec.delay_s

    @property
    def tokens(self) -> int:
        """Tokens per slot."""
        return self.slot_spec.tokens

    @property
    def dim(self) -> int:
        """Length of a token."""
        return self.slot_spec.dim


@dataclass(frozen=True)
class CheckSpec:
    """A fixed input and the logits it must give on every machine."""

    seed: int
    expected: Mapping[str, tuple[float, ...]]  # head -> logits
    tolerance: float  # largest absolute difference allowed


@dataclass(frozen=True)
class Manifest:
    """All of `bundle.json`, typed."""

    name: str
    created: str  # ISO 8601
    git: str  # commit of the code that made it
    preset: str
    licence: str
    window_s: float
    modalities: Mapping[str, ModalitySpec]
    fusion: GraphSpec
    heads: Mapping[str, tuple[str, ...]]  # {"verb", "noun"} or {"action"} -> labels
    actions: tuple[tuple[int, int], ...]  # valid (verb, noun) pairs; empty with a single `action` head
    temperature: Mapping[str, float]  # head -> temperature
    check: CheckSpec

    @property
    def action_names(self) -> tuple[str, ...]:
        """One name per action id."""
        if "action" in self.heads:
            return self.heads["action"]
        verbs, nouns = self.heads["verb"], self.heads["noun"]
        return tuple(action_name(verbs[v], nouns[n]) for v, n in self.actions)

    @property
    def precisions(self) -> set[str]:
        """Those of its graphs: "fp32", "fp16", "int8"."""
        return {spec.precision for spec in (*self.modalities.values(), self.fusion)}

    def slot_specs(self) -> dict[str, SlotSpec]:
        """{modality: SlotSpec}, in manifest order."""
        return {name: spec.slot_spec for name, spec in self.modalities.items()}


class _FieldError(Exception):
    """What is wrong with a field, without the file's name."""


def action_name(verb: str, noun: str = "none") -> str:
    """What an action of these is called: "pour bottle"; the verb alone where the noun is "none", or there are none."""
    return verb if noun == "none" else f"{verb} {noun}"


def decode_manifest(text: bytes, where: str) -> dict[str, Any]:
    """JSON bytes to a dict, without the loopholes of JSON: no repeated keys, NaN, or depth that exhausts the stack.

    :raises BundleError: not such JSON; `where` names the file in the message.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            raise _FieldError("a field is given twice")
        return result

    def constant(name: str) -> float:
        raise _FieldError(f"{name} is not a number")

    if len(text) > MAX_BYTES:
        raise BundleError(f"{where}: larger than {MAX_BYTES} bytes: not a bundle's manifest")
    try:
        if _depth(text) > _MAX_DEPTH:
            raise _FieldError(f"nested deeper than {_MAX_DEPTH} levels")
        value = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
        if not isinstance(value, dict):
            raise _FieldError("not an object")
    except (_FieldError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{where}: not a bundle's manifest ({reason}): copy or export the bundle again") from None
    return value


def _depth(text: bytes) -> int:
    """Deepest nesting of brackets outside strings, found before the parser recurses into it."""
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text, flags=re.DOTALL)
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def parse_manifest(value: Mapping[str, Any], where: str) -> Manifest:
    """A decoded manifest to its typed form.

    :raises BundleError: a field is missing, unknown, of the wrong type or out of range; `where` names the file.
    """
    if value.get("schema") != SCHEMA or isinstance(value.get("schema"), bool):
        found = str(value.get("schema", "none"))[:20]
        raise BundleError(
            f"{where}: bundle schema {found}, this version reads {SCHEMA}: use a matching karmma_ros or export again"
        )
    try:
        return _manifest(_Fields("", {k: v for k, v in value.items() if k != "schema"}))
    except _FieldError as fault:
        raise BundleError(f"{where}: {fault}: correct it or export the bundle again") from None


class _Fields:
    """The fields of one object: each is taken once, by type and range, and `done` refuses what was left."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise _FieldError(f"{path} is not an object")
        self._path = path
        self._left = dict(value)

    def path(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        return key in self._left

    def keys(self) -> list[str]:
        return list(self._left)

    def any(self, key: str) -> Any:
        if key not in self._left:
            raise _FieldError(f"{self.path(key)} is missing")
        return self._left.pop(key)

    def take(self, key: str, read: Callable[[Any], T]) -> T:
        value = self.any(key)
        try:
            return read(value)
        except _FieldError as fault:
            raise _FieldError(f"{self.path(key)} {fault}") from None

    def object(self, key: str) -> _Fields:
        return _Fields(self.path(key), self.any(key))

    def done(self) -> None:
        if self._left:
            raise _FieldError(f"{self.path(sorted(self._left)[0][:40])} is not a field of schema {SCHEMA}")


def _text(most: int = 200, least: int = 0) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most or not (value.isprintable() or not value):
            raise _FieldError(f"is not printable text of {least} to {most} characters")
        return value

    return read


def _pattern(pattern: str, what: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, flags=re.ASCII):
            raise _FieldError(f"is not {what}")
        return value

    return read


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _FieldError(f"is not one of {', '.join(choices)}")
        return value

    return read


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _FieldError(f"is not a whole number from {least} to {most}")
        return value

    return read


def _number(least: float, most: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise _FieldError(f"is not a number from {least:g} to {most:g}")
        return float(value)

    return read


def _list(item: Callable[[Any], T], least: int, most: int) -> Callable[[Any], tuple[T, ...]]:
    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            raise _FieldError(f"is not a list of {least} to {most} entries")
        result = []
        for index, entry in enumerate(value):
            try:
                result.append(item(entry))
            except _FieldError as fault:
                raise _FieldError(f"[{index}] {fault}") from None
        return tuple(result)

    return read


def _labels(value: Any) -> tuple[str, ...]:
    labels = _list(_text(least=1), 1, 100_000)(value)
    if len(set(labels)) != len(labels):
        raise _FieldError("names a label twice")
    return labels


_GRAPH_NAME = _pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.onnx", "a plain file name ending in .onnx")
_SHA256 = _pattern(r"[0-9a-f]{64}", "64 lower-case hex digits")
_PRECISION = _one_of("fp32", "fp16", "int8")


def _manifest(fields: _Fields) -> Manifest:
    name = fields.take("name", _pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "a name of letters, digits, '.', '_', '-'"))
    window_s = fields.take("window_s", _number(0.01, 600.0))
    modalities = _modalities(fields.object("modalities"))
    fusion = _graph(fields.object("fusion"))
    heads = _heads(fields.object("heads"))
    actions = _actions(fields, heads)
    temperature = _temperature(fields.object("temperature"), heads)
    check = _check(fields.object("check"), heads)
    graphs = [spec.graph for spec in modalities.values()] + [fusion.graph]
    if len(set(graphs)) != len(graphs):
        raise _FieldError("two graphs share one file")
    manifest = Manifest(
        name=name,
        created=fields.take("created", _text()),
        git=fields.take("git", _text()),
        preset=fields.take("preset", _text()),
        licence=fields.take("licence", _text()),
        window_s=window_s,
        modalities=MappingProxyType(modalities),
        fusion=fusion,
        heads=MappingProxyType(heads),
        actions=actions,
        temperature=MappingProxyType(temperature),
        check=check,
    )
    fields.done()
    return manifest


def _graph(fields: _Fields) -> GraphSpec:
    spec = GraphSpec(
        graph=fields.take("graph", _GRAPH_NAME),
        sha256=fields.take("sha256", _SHA256),
        precision=fields.take("precision", _PRECISION),
    )
    fields.done()
    return spec


def _modalities(fields: _Fields) -> dict[str, ModalitySpec]:
    names = fields.keys()
    unknown = sorted(set(names) - set(MODALITIES))
    if unknown or not names:
        raise _FieldError(f"modalities must be some of {', '.join(MODALITIES)}")
    return {name: _modality(name, fields.object(name)) for name in names}


def _modality(name: str, fields: _Fields) -> ModalitySpec:
    context = fields.take("context", _integer(1, 10_000_000))
    clips = name != "audio" and context > 1
    rate = fields.take("rate", _integer(4_000, 192_000) if name == "audio" else _integer(0, 0))
    slots = SlotSpec(
        slots=fields.take("slots", _integer(1, 10_000)),
        spacing_s=fields.take("spacing_s", _number(0.001, 600.0)),
        delay_s=fields.take("delay_s", _number(0.0, 60.0)),
        tokens=fields.take("tokens", _integer(1, 4_096)),
        dim=fields.take("dim", _integer(1, 16_384)),
    )
    if (slots.slots + 1 / slots.spacing_s) * slots.tokens * slots.dim > _MAX_WINDOW_FLOATS:
        raise _FieldError(f"{fields.path('slots')} x tokens x dim is more than {_MAX_WINDOW_FLOATS}")
    spec = ModalitySpec(
        name=name,
        graph=fields.take("graph", _GRAPH_NAME),
        sha256=fields.take("sha256", _SHA256),
        precision=fields.take("precision", _PRECISION),
        input=_input(name, fields.object("input"), context),
        rate=rate,
        context=context,
        context_step_s=fields.take("context_step_s", _number(0.001, 60.0)) if clips else 0.0,
        slot_spec=slots,
        producer=_producer(fields.object("producer")) if name == "flow" else None,
        categories=fields.take("categories", _labels) if name == "detections" else (),
    )
    fields.done()
    return spec


def _input(name: str, fields: _Fields, context: int) -> InputSpec:
    dtype = fields.take("dtype", _one_of("uint8" if name == "video" else "float32"))
    shape = fields.any("shape")
    where = fields.path("shape")
    if not isinstance(shape, list | tuple) or not shape or shape[0] != "B":
        raise _FieldError(f'{where} does not start with "B"')
    try:
        sizes = _list(_integer(1, 10_000_000), 1, 4)(list(shape[1:]))
    except _FieldError as fault:
        raise _FieldError(f"{where} {fault}") from None
    if name == "audio":
        if sizes != (context,):
            raise _FieldError(f'{where} is not ["B", context]')
        fields.done()
        return InputSpec(dtype, sizes)
    if name == "detections":
        if len(sizes) != 3 or sizes[0] != context or sizes[1] > _MAX_BOXES or sizes[2] != BOX:
            raise _FieldError(f'{where} is not ["B", context, boxes, {BOX}] with up to {_MAX_BOXES} boxes')
        fields.done()
        return InputSpec(dtype, sizes)
    channels = 3 if name == "video" else 2
    if context * math.prod(sizes[1:3]) > _MAX_CLIP_PIXELS:
        raise _FieldError(f"{where} has more than {_MAX_CLIP_PIXELS} pixels")
    if len(sizes) != 4 or sizes[0] != context or max(sizes[1:3]) > 4_096 or sizes[3] != channels:
        raise _FieldError(f'{where} is not ["B", context, height, width, {channels}] with sides up to 4096')
    spec = InputSpec(
        dtype, sizes, fields.take("resize", _one_of("squash")), fields.take("interpolation", _one_of("area"))
    )
    fields.done()
    return spec


def _producer(fields: _Fields) -> ProducerSpec:
    algorithm = fields.take("algorithm", _one_of("dis"))
    preset = fields.take("preset", _one_of("ultrafast", "fast", "medium"))
    width, height = fields.take("size", _list(_integer(16, 4_096), 2, 2))
    fields.done()
    return ProducerSpec(algorithm, preset, (width, height))


def _heads(fields: _Fields) -> dict[str, tuple[str, ...]]:
    names = fields.keys()
    if sorted(names) not in (["noun", "verb"], ["action"]):
        raise _FieldError("heads must be verb and noun, or action alone")
    return {name: fields.take(name, _labels) for name in names}


def _actions(fields: _Fields, heads: Mapping[str, tuple[str, ...]]) -> tuple[tuple[int, int], ...]:
    if "action" in heads:
        fields.take("actions", _list(_integer(0, 0), 0, 0))
        return ()
    pairs = fields.take("actions", _list(_list(_integer(0, 100_000), 2, 2), 1, 100_000))
    result = tuple((pair[0], pair[1]) for pair in pairs)
    if len(set(result)) != len(result):
        raise _FieldError("actions names a pair twice")
    for index, (verb, noun) in enumerate(result):
        if verb >= len(heads["verb"]) or noun >= len(heads["noun"]):
            raise _FieldError(f"actions[{index}] points past the end of a head's labels")
    return result


def _temperature(fields: _Fields, heads: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    result = {head: fields.take(head, _number(1e-3, 1e3)) for head in heads}
    fields.done()
    return result


def _check(fields: _Fields, heads: Mapping[str, tuple[str, ...]]) -> CheckSpec:
    seed = fields.take("seed", _integer(0, 2**32 - 1))
    tolerance = fields.take("tolerance", _number(1e-7, 1.0))
    expected_fields = fields.object("expected")
    limit = 1e9
    expected = {
        head: expected_fields.take(head, _list(_number(-limit, limit), len(labels), len(labels)))
        for head, labels in heads.items()
    }
    expected_fields.done()
    fields.done()
    if not all(math.isfinite(value) for values in expected.values() for value in values):
        raise _FieldError("check.expected is not finite")
    return CheckSpec(seed, MappingProxyType(expected), tolerance)
