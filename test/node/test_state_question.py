# SPDX-License-Identifier: Apache-2.0
"""The question after a node's state survives answers that get lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from karmma_ros.nodes.state_question import PATIENCE_S, StateQuestion

UNKNOWN, ACTIVE = 0, 3


class Answer:
    """A future."""

    def __init__(self) -> None:
        self.value: Any = None

    def done(self) -> bool:
        return self.value is not None

    def result(self) -> Any:
        return self.value


class Client:
    """A service's client whose answers come when the test says so."""

    def __init__(self) -> None:
        self.ready, self.asked, self.given_up = False, [], []

    def service_is_ready(self) -> bool:
        return self.ready

    def call_async(self, request: Any) -> Answer:
        self.asked.append(Answer())
        return self.asked[-1]

    def remove_pending_request(self, answer: Answer) -> None:
        self.given_up.append(answer)


def test_a_lost_answer_is_asked_for_again() -> None:
    client = Client()
    question = StateQuestion(client, SimpleNamespace, UNKNOWN)
    assert question.ask(0.0) == UNKNOWN
    assert not client.asked, "nobody is there yet"
    client.ready = True
    for now_s in (0.1, 0.2, PATIENCE_S):
        assert question.ask(now_s) == UNKNOWN
    assert len(client.asked) == 1, "one question at a time"
    question.ask(PATIENCE_S + 0.2)
    assert client.given_up == client.asked[:1]
    assert len(client.asked) == 2
    client.asked[1].value = SimpleNamespace(current_state=SimpleNamespace(id=ACTIVE))
    assert question.ask(PATIENCE_S + 0.3) == ACTIVE
    assert question.ask(PATIENCE_S + 0.4) == ACTIVE, "the last answer holds while the next is on its way"
