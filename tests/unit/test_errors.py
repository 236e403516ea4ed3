from collections.abc import Iterator
from io import StringIO

import pytest

from baozi import errors
from baozi.commands import app_with
from baozi.errors import BaoziError, BrokerError, DeadlinePassed, ExitCode, LedgerError, PutRefused

LONGEST = 130


def tree(root: type[BaoziError] = BaoziError) -> Iterator[type[BaoziError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# The commands load every module that has errors of its own.
assert app_with()
ALL = sorted(set(tree()), key=lambda error: error.__name__)
SHARED = [error for error in ALL if error.__module__ == errors.__name__]


def test_the_tree_has_the_errors_that_every_part_shares_and_some_parts_own() -> None:
    assert len(SHARED) > 20
    assert len(ALL) > len(SHARED)


@pytest.mark.parametrize("error", ALL)
def test_an_error_s_docstring_is_its_message_in_one_or_two_short_sentences(error: type[BaoziError]) -> None:
    doc = error.__dict__.get("__doc__")
    assert doc, "inherited is not written"
    message = " ".join(doc.split())
    assert str(error()) == message
    assert message.endswith(".")
    assert message[0].isupper()
    assert 1 <= message.count(". ") + 1 <= 2
    assert len(message) <= LONGEST


@pytest.mark.parametrize("error", ALL)
def test_an_error_prints_its_own_message(error: type[BaoziError]) -> None:
    assert str(error("The steamer is cold.")) == "The steamer is cold."
    shown = StringIO()
    error("The steamer is cold.").show(shown)
    assert shown.getvalue() == "The steamer is cold.\n"


@pytest.mark.parametrize("error", ALL)
def test_every_error_has_a_named_exit_code_that_is_not_success(error: type[BaoziError]) -> None:
    assert isinstance(error.exit_code, ExitCode)
    assert error.exit_code is not ExitCode.OK


@pytest.mark.parametrize("error", SHARED)
def test_an_error_s_place_in_the_tree_is_its_exit_code(error: type[BaoziError]) -> None:
    expected = {
        BrokerError: ExitCode.NO_BROKER,
        LedgerError: ExitCode.NO_LEDGER,
        PutRefused: ExitCode.REFUSED,
        DeadlinePassed: ExitCode.LOSS,
    }
    codes = [code for root, code in expected.items() if issubclass(error, root)]
    assert error.exit_code is (codes[0] if codes else ExitCode.USAGE)


def test_the_exit_codes_are_what_scripts_rely_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "LOSS": 1,
        "USAGE": 2,
        "NO_BROKER": 3,
        "NO_LEDGER": 4,
        "REFUSED": 5,
        "UNHEALTHY": 6,
        "NOT_SHOWN": 7,
        "BUG": 70,
        "INTERRUPTED": 130,
    }
