# SPDX-License-Identifier: Apache-2.0
"""A life cycle node's state, asked again and again: in DDS an answer may get lost while the two are still meeting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["StateQuestion"]

PATIENCE_S = 2.0  # [s] after which an answer is given up
_PAUSE_S = 0.1  # [s] between two questions, at least


class StateQuestion:
    """Keeps one question on its way.

    :param client: of the service; request: makes a request; unknown: the state before the first answer.
    """

    def __init__(self, client: Any, request: Callable[[], Any], unknown: int) -> None:
        self._client, self._request = client, request
        self._answer: Any = None
        self._asked_s = float("-inf")
        self.state = unknown

    def ask(self, now_s: float | None = None) -> int:
        """The last state heard of; call it again after spinning.

        :param now_s: steady time; None: now.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if self._answer is not None and self._answer.done():
            result = self._answer.result()
            if result is not None:
                self.state = result.current_state.id
            self._answer = None
        elif self._answer is not None and now_s - self._asked_s > PATIENCE_S:
            self._client.remove_pending_request(self._answer)
            self._answer = None
        if self._answer is None and now_s - self._asked_s >= _PAUSE_S and self._client.service_is_ready():
            self._answer, self._asked_s = self._client.call_async(self._request()), now_s
        return self.state
