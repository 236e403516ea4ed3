"""The window of a confirmed publisher, against a list that knows of each message what was said of it."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from baozi.amqp.window import Outcome, Window

Settled = list[tuple[str, Outcome]]

#: Few, so that one is sent again after it was settled, as a publisher does.
_NUMBERS = st.integers(0, 5)


class WindowBesideAModel(RuleBasedStateMachine):
    """Whatever the broker says, in any order: nothing is settled that was not, nothing is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.waiting: Settled = []
        self.tags: list[int] = []
        self.last_tag = 0

    @rule(number=_NUMBERS)
    def send(self, number: int) -> None:
        if any(message_id == f"{number}" for message_id, _ in self.waiting):
            with pytest.raises(ValueError, match="waits"):
                self.window.sent(f"{number}")
            return
        self.last_tag += 1
        assert self.window.sent(f"{number}") == self.last_tag
        self.waiting.append((f"{number}", Outcome.UNKNOWN))
        self.tags.append(self.last_tag)

    @rule(number=_NUMBERS)
    def give_back(self, number: int) -> None:
        self.window.returned(f"{number}")
        self.waiting = [(i, Outcome.RETURNED if i == f"{number}" else outcome) for i, outcome in self.waiting]

    @rule(tag=st.integers(0, 9), multiple=st.booleans(), confirm=st.booleans())
    def settle(self, tag: int, multiple: bool, confirm: bool) -> None:
        told = self.window.confirmed(tag, multiple) if confirm else self.window.refused(tag, multiple)
        said = Outcome.CONFIRMED if confirm else Outcome.REFUSED
        expected: Settled = []
        left: Settled = []
        left_tags = []
        for each, (message_id, outcome) in zip(self.tags, self.waiting, strict=True):
            if each == tag or (multiple and (each < tag or tag == 0)):
                expected.append((message_id, outcome if outcome == Outcome.RETURNED else said))
            else:
                left.append((message_id, outcome))
                left_tags.append(each)
        self.waiting, self.tags = left, left_tags
        assert told == expected

    @rule()
    def reconnect(self) -> None:
        assert self.window.lost() == [(message_id, Outcome.UNKNOWN) for message_id, _ in self.waiting]
        self.waiting, self.tags, self.last_tag = [], [], 0

    @invariant()
    def as_many_wait(self) -> None:
        assert len(self.window) == len(self.waiting)


WindowBesideAModel.TestCase.settings = settings(max_examples=100, database=None)
TestWindow = WindowBesideAModel.TestCase


def test_a_message_that_waits_is_not_sent_again() -> None:
    window = Window()
    window.sent("a")
    with pytest.raises(ValueError, match="a waits"):
        window.sent("a")


def test_a_message_that_was_returned_before_a_reconnect_can_be_confirmed_after_it() -> None:
    window = Window()
    window.sent("a")
    window.returned("a")
    assert window.lost() == [("a", Outcome.UNKNOWN)]
    assert window.confirmed(window.sent("a"), multiple=False) == [("a", Outcome.CONFIRMED)]
