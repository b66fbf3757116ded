# SPDX-License-Identifier: Apache-2.0
"""The sound of a bag, in messages of any of the three families (see `decode_audio`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.bags.reader import Bag, Topic
from karmma_ros.decode_audio import (
    AUDIO,
    AUDIO_DATA_STAMPED,
    AUDIO_INFO,
    AUDIO_STAMPED,
    PcmFormat,
    audio_to_chunk,
    info_to_format,
)
from karmma_ros.errors import SampleError

__all__ = ["SOUND_TYPES", "SoundDecoder"]

SOUND_TYPES = (AUDIO, AUDIO_STAMPED, AUDIO_DATA_STAMPED)


class SoundDecoder:
    """Decodes the messages of one topic.

    What the bytes of an AudioDataStamped are is told by an AudioInfo on another topic: of several, one in the same
    namespace is taken. Drivers repeat it every few seconds, so the first holds for what came before it too.
    """

    def __init__(self, bag: Bag, topic: Topic) -> None:
        """:raises BagError: the bag is damaged."""
        self._pcm: PcmFormat | None = None
        self._fault: tuple[str, str] | None = None  # cause and detail of the error that every message meets
        if topic.type == AUDIO_DATA_STAMPED:
            try:
                self._pcm = _format(bag, topic)
            except SampleError as error:
                self._fault = (error.cause, error.detail)

    def __call__(self, message: Any) -> tuple[npt.NDArray[np.float32], int]:
        """((n, channels) float32, sample rate [Hz]).

        :raises SampleError: the message cannot be used.
        """
        if self._fault is not None:
            raise SampleError(*self._fault)  # a new one: an error keeps the frames, and messages, it has passed
        return audio_to_chunk(message, pcm=self._pcm)


def _format(bag: Bag, topic: Topic) -> PcmFormat:
    space = topic.name.rpartition("/")[0]
    infos = [other for other in bag.topics.values() if other.type == AUDIO_INFO and other.count]
    for info in sorted(infos, key=lambda other: other.name.rpartition("/")[0] != space):
        first = bag.first(info.name)
        if first is not None:
            return info_to_format(first.decode())
    raise SampleError("audio has no format", "record the topic of its AudioInfo (audio_info) too")
