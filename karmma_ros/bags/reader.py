# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 recording as a stream of messages, without ROS: the only place that knows the `rosbags` library.

mcap and sqlite3, plain or compressed. Messages come in the order in which they were recorded (log time), which is the
order in which a node would have received them. A message is deserialised only when asked for, and only the definitions
of the types that are asked for are parsed: what else is in a bag cannot do harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from karmma_ros.decode_audio import AUDIO
from karmma_ros.errors import BagError, SampleError

__all__ = ["AUDIO_DEFINITION", "Bag", "BagMessage", "Topic", "bag_name", "default_types", "header_ns"]

AUDIO_DEFINITION = """
std_msgs/Header header
uint32 sample_rate
uint32 channels
float32[] samples
"""

_NS = 1_000_000_000
_STORAGES = (".mcap", ".db3")
_IDL_SEPARATOR = "=" * 80 + "\n"


def default_types() -> Typestore:
    """ROS 2 Jazzy's common types and ours: for bags that carry no definitions, and for writing."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(AUDIO_DEFINITION, AUDIO))
    return store


def bag_name(path: Path) -> str:
    """What a bag is called in tables and file names: its folder, or its file without suffix."""
    path = path.absolute()
    return path.stem if path.suffix in _STORAGES else path.name


@dataclass(frozen=True)
class Topic:
    """One topic of a bag. `defined`: the bag carries the definition of its type."""

    name: str
    type: str
    count: int
    defined: bool


class BagMessage:
    """A recorded message: `topic`, `log_ns` (when it was received by the recorder), and what it says on demand."""

    __slots__ = ("_data", "_store", "log_ns", "topic")

    def __init__(self, topic: Topic, log_ns: int, data: bytes, store: Typestore) -> None:
        self.topic = topic
        self.log_ns = log_ns
        self._data = data
        self._store = store

    @property
    def cdr(self) -> bytes:
        """The message as it travels: what a publisher of raw messages sends."""
        return bytes(self._data)

    def decode(self) -> Any:
        """An object with the message's fields; arrays of numbers are NumPy arrays.

        :raises SampleError: the bytes are not such a message.
        """
        try:
            return self._store.deserialize_cdr(self._data, self.topic.type)
        except Exception as error:  # damaged bytes make the generated code raise all sorts of things
            raise SampleError("message cannot be deserialised", f"{self.topic.type}: {error}") from None


def header_ns(message: Any) -> int:
    """The header's stamp, ns since the epoch.

    :raises SampleError: there is no such header.
    """
    try:
        stamp = message.header.stamp
        return int(stamp.sec) * _NS + int(stamp.nanosec)
    except AttributeError:
        raise SampleError("malformed message", "header") from None


class Bag:
    """An open recording; a context manager.

    `topics`: by name, in the bag's order. `start_ns`, `duration_s`: of its log time. `count`: of messages.
    """

    def __init__(self, path: str | Path) -> None:
        """:raises BagError: not a bag, damaged, or of a kind that cannot be read."""
        self.path = Path(path)
        self.name = bag_name(self.path)
        self._reader = _open(self.path)
        self._stores: dict[str, Typestore] = {}
        self._default: Typestore | None = None
        by_topic: dict[str, list[Connection]] = {}
        for connection in self._reader.connections:
            by_topic.setdefault(connection.topic, []).append(connection)
        self._connections = by_topic
        self.topics = {name: _topic(name, connections) for name, connections in by_topic.items()}
        self.count = self._reader.message_count
        self.start_ns = self._reader.start_time if self.count else 0
        self.duration_s = max(0, self._reader.duration - 1) / _NS if self.count else 0.0

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """The messages of some topics, in order of log time.

        :raises BagError: the recording is damaged from here on, or a type cannot be understood.
        """
        connections = [c for name in topics for c in self._connections.get(name, ())]
        if not connections:
            return
        stores = {name: self.types_of(self.topics[name]) for name in topics if name in self.topics}
        before_ns: int | None = None
        messages = self._reader.messages(connections)
        while True:
            try:
                connection, log_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # whatever the storages and decompressors raise over damaged bytes
                after_s = 0.0 if before_ns is None else (before_ns - self.start_ns) / _NS
                raise BagError(
                    f"{self.path}: damaged after {after_s:.1f} s ({_reason(error)}): "
                    "recover it with `mcap recover`, or `.recover` of the sqlite3 shell"
                ) from error
            before_ns = log_ns
            yield BagMessage(self.topics[connection.topic], log_ns, data, stores[connection.topic])

    def first(self, topic: str) -> BagMessage | None:
        """The first message of a topic; None where there is none."""
        return next(self.messages([topic]), None)

    def types_of(self, topic: Topic) -> Typestore:
        """What deserialises a topic's type: the bag's own definition, else the one that this package knows.

        :raises BagError: there is none.
        """
        if topic.type in self._stores:
            return self._stores[topic.type]
        if topic.defined:
            self._stores[topic.type] = _parsed(self.path, topic, self._connections[topic.name])
            return self._stores[topic.type]
        if self._default is None:
            self._default = default_types()
        if topic.type not in self._default.fielddefs:
            raise BagError(
                f"{self.path}: no definition of {topic.type}, the type of {topic.name}: "
                "record to mcap, which keeps definitions"
            )
        self._stores[topic.type] = self._default
        return self._default


def _topic(name: str, connections: list[Connection]) -> Topic:
    """Several publishers make several connections of one topic."""
    defined = any(c.msgdef.format is not MessageDefinitionFormat.NONE for c in connections)
    return Topic(name, connections[0].msgtype, sum(c.msgcount for c in connections), defined)


def _parsed(path: Path, topic: Topic, connections: list[Connection]) -> Typestore:
    definition = next(c.msgdef for c in connections if c.msgdef.format is not MessageDefinitionFormat.NONE)
    store = get_typestore(Stores.EMPTY)
    try:
        if definition.format is MessageDefinitionFormat.MSG:
            store.register(get_types_from_msg(definition.data, topic.type))
        elif definition.data.startswith(f"{_IDL_SEPARATOR}IDL: "):
            for part in definition.data.split(_IDL_SEPARATOR)[1:]:
                store.register(get_types_from_idl(part.partition("\n")[2]))
        else:
            store.register(get_types_from_idl(definition.data))
    except Exception as error:  # the library's parsers raise more than they say
        raise BagError(f"{path}: the definition of {topic.type} cannot be parsed ({_reason(error)})") from error
    return store


def _open(path: Path) -> Reader:
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.suffix == ".bag":
        raise BagError(f"{path}: a ROS 1 bag: `rosbags-convert --src {path} --dst {path.with_suffix('')}` makes it one")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        storages = sorted(file for file in path.iterdir() if file.suffix in _STORAGES)
        remedy = f"give {storages[0]} itself, or `ros2 bag reindex {path}`" if storages else "give a bag's folder"
        raise BagError(f"{path}: no metadata.yaml in it: {remedy}")
    if path.is_file() and path.suffix not in _STORAGES:
        raise BagError(f"{path}: not a bag: give a folder with metadata.yaml, an .mcap or a .db3")
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # damaged files make the library raise all sorts of things
        remedy = "was the recording cut off? `mcap recover` and `ros2 bag reindex` mend that"
        raise BagError(f"{path}: cannot be read ({_reason(error)}): {remedy}") from error
    return reader


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
