from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baozi.audit import Audit, Sums, audit, settled_audit
from baozi.errors import ExitCode, LedgerAway, NothingToAudit
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from baozi.model import Baozi
from baozi.order_sums import Account, Records
from tests.integration.ledgers import RUN, close, eat, only, record_redelivery

if TYPE_CHECKING:
    from side_by_side.postgresql import PostgreSQLServer

pytest_plugins = ["tests.integration.postgresql"]

#: The largest count that an order can tell.
MOST = 2**63 - 1


def test_all_accepted_and_all_eaten_is_proven(ledger: Ledger) -> None:
    eat(ledger, *range(5))
    close(ledger, 5)
    sums = audit(ledger, RUN, {})
    expected = Sums(
        producer="alex",
        accepted=5,
        eaten=5,
        lost=0,
        duplicated=0,
        recovered=0,
        unexpected=0,
        dead=0,
        missing=[],
    )
    assert sums == Audit(run=RUN, producers=[expected], total=expected.model_copy(update={"producer": "all"}))
    assert sums.proven
    assert sums.open_orders == []


def test_each_sum_is_exact_at_the_edges_of_the_order(ledger: Ledger) -> None:
    # 0 to 3 accepted, 4 and 5 attempted with an unknown fate, 6 and on never attempted.
    close(ledger, 4, 6)
    eat(ledger, 0, 3, 4, 6, 7)
    eat(ledger, 3, 3, 7)
    assert only(audit(ledger, RUN, {"alex": 1})) == Sums(
        producer="alex",
        accepted=4,
        eaten=5,
        lost=2,
        duplicated=3,
        recovered=1,
        unexpected=2,
        dead=1,
        missing=[(1, 2)],
    )


def test_recovered_or_duplicated_baozi_do_not_hide_a_loss(ledger: Ledger) -> None:
    close(ledger, 3, 6)
    eat(ledger, 0, 1, 3, 4, 5)
    eat(ledger, 0, 0)
    sums = audit(ledger, RUN)
    assert (only(sums).lost, only(sums).recovered, only(sums).duplicated) == (1, 3, 2)
    assert not sums.proven


def test_a_redelivery_that_was_not_eaten_again_is_counted(ledger: Ledger) -> None:
    close(ledger, 1)
    eat(ledger, 0)
    record_redelivery(ledger, Baozi(run=RUN, producer="alex", number=0, made_at=1.0))
    assert only(audit(ledger, RUN)).duplicated == 1
    assert audit(ledger, RUN).proven


def test_several_producers_are_summed_each_and_in_all(ledger: Ledger) -> None:
    for producer, accepted in (("peiqi", 3), ("alex", 2), ("小红", 4)):
        close(ledger, accepted, accepted + 1, producer=producer)
    eat(ledger, 0, 1, 2, producer="alex")
    eat(ledger, 0, producer="peiqi")
    eat(ledger, 0, 0, 1, 2, 3, 5, producer="小红")
    sums = audit(ledger, RUN, {"peiqi": 2})
    rows = {
        s.producer: (s.accepted, s.eaten, s.lost, s.recovered, s.unexpected, s.dead) for s in sums.producers
    }
    assert rows == {"alex": (2, 3, 0, 1, 0, 0), "peiqi": (3, 1, 2, 0, 0, 2), "小红": (4, 5, 0, 0, 1, 0)}
    assert sums.total == Sums(
        producer="all",
        accepted=9,
        eaten=9,
        lost=2,
        duplicated=1,
        recovered=1,
        unexpected=1,
        dead=2,
    )
    assert not sums.proven


def test_other_runs_and_other_producers_are_not_counted(ledger: Ledger) -> None:
    close(ledger, 2)
    eat(ledger, 0)
    close(ledger, 9, run="other")
    eat(ledger, 0, 1, 2, run="other")
    eat(ledger, 1, run="cours")
    assert only(audit(ledger, RUN)).lost == 1
    assert only(audit(ledger, RUN)).missing == [(1, 1)]
    assert only(audit(ledger, "other")).missing == [(3, 8)]


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), [(0, 9)]),
        ((0,), [(1, 9)]),
        ((9,), [(0, 8)]),
        ((1, 2, 3, 4, 5, 6, 7, 8, 9), [(0, 0)]),
        ((0, 1, 2, 3, 4, 5, 6, 7, 8), [(9, 9)]),
        ((0, 1, 2, 6, 7, 8, 9), [(3, 5)]),
        ((1, 4, 5, 8), [(0, 0), (2, 3), (6, 7), (9, 9)]),
        ((1, 3, 5, 7, 9), [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]),
        ((0, 10, 11), [(1, 9)]),
    ],
)
def test_the_missing_numbers_are_named_by_their_gaps(
    there: tuple[int, ...], missing: list[tuple[int, int]], ledger: Ledger
) -> None:
    close(ledger, 10, 11)
    eat(ledger, *there)
    assert only(audit(ledger, RUN)).missing == missing


def test_at_most_the_first_five_gaps_are_named(ledger: Ledger) -> None:
    close(ledger, 20)
    eat(ledger, *range(1, 20, 2))
    sums = only(audit(ledger, RUN))
    assert sums.lost == 10
    assert sums.missing == [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]


def test_the_largest_order_there_can_be_is_audited(ledger: Ledger) -> None:
    close(ledger, MOST)
    eat(ledger, 0, MOST - 1)
    sums = only(audit(ledger, RUN))
    assert (sums.accepted, sums.eaten, sums.lost) == (MOST, 2, MOST - 2)
    assert sums.missing == [(1, MOST - 2)]


def test_an_empty_order_is_proven(ledger: Ledger) -> None:
    close(ledger, 0)
    sums = audit(ledger, RUN)
    assert (sums.total.accepted, sums.total.eaten, sums.total.lost) == (0, 0, 0)
    assert sums.proven


def test_an_order_that_is_not_closed_proves_nothing(ledger: Ledger) -> None:
    eat(ledger, 0, 1, 1)
    close(ledger, 1, producer="peiqi")
    eat(ledger, 0, producer="peiqi")
    sums = audit(ledger, RUN)
    alex, peiqi = sums.producers
    assert (alex.accepted, alex.eaten, alex.lost, alex.recovered, alex.unexpected) == (None, 2, 0, 0, 0)
    assert (alex.duplicated, alex.missing) == (1, [])
    assert peiqi.accepted == 1
    assert sums.open_orders == ["alex"]
    assert sums.total.accepted is None
    assert not sums.proven


def test_dead_letters_of_a_producer_that_the_ledger_does_not_know_are_listed(ledger: Ledger) -> None:
    close(ledger, 1)
    eat(ledger, 0)
    sums = audit(ledger, RUN, {"peiqi": 2})
    assert [(one.producer, one.accepted, one.dead) for one in sums.producers] == [
        ("alex", 1, 0),
        ("peiqi", None, 2),
    ]
    assert sums.total.dead == 2
    assert sums.open_orders == ["peiqi"]
    assert not sums.proven


def test_dead_is_unknown_where_no_broker_was_asked(ledger: Ledger) -> None:
    close(ledger, 1)
    sums = audit(ledger, RUN)
    assert only(sums).dead is None
    assert sums.total.dead is None


def test_an_audit_is_of_one_moment_though_baozi_are_eaten_meanwhile(
    ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(ledger, 4)
    eat(ledger, 0, 3)
    real = Records.missing

    def after_another_meal(records: Records, account: Account) -> Iterator[tuple[int, int]]:
        worker = Ledger(ledger_url)
        eat(worker, 1)
        worker.close()
        return real(records, account)

    monkeypatch.setattr(Records, "missing", after_another_meal)
    sums = only(audit(ledger, RUN))
    assert (sums.lost, sums.missing) == (2, [(1, 2)]), "the gaps are of what was counted"


def test_an_unknown_run_is_nothing_to_audit(ledger: Ledger) -> None:
    close(ledger, 1, run="other")
    with pytest.raises(NothingToAudit, match=r"^The ledger has nothing of run course\. .*\.$") as caught:
        audit(ledger, RUN)
    assert caught.value.exit_code is ExitCode.NO_LEDGER


@pytest.mark.parametrize("folder", [False, True])
def test_a_ledger_that_is_not_there_yet_is_nothing_to_audit_and_is_not_made(
    folder: bool, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    if folder:
        home.mkdir()
    ledger = Ledger(file_url(home / "ledger.sqlite3"))
    with pytest.raises(NothingToAudit, match=r"^There is no ledger at .*/ledger.sqlite3 yet; .*\.$"):
        audit(ledger, RUN)
    ledger.close()
    assert not (home / "ledger.sqlite3").exists()
    assert home.exists() is folder


def test_a_database_without_the_tables_is_nothing_to_audit(postgresql_url: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for url in (postgresql_url, file_url(tmp_path / "empty").render_as_string()):
        ledger = Ledger(url)
        with pytest.raises(NothingToAudit, match=r"^The ledger has no tables yet; .*\.$"):
            audit(ledger, RUN)
        ledger.close()


def test_a_ledger_that_cannot_be_reached_is_not_nothing_to_audit(postgresql: "PostgreSQLServer") -> None:
    ledger = Ledger(postgresql.url("nowhere"))
    with pytest.raises(LedgerAway, match="does not exist"):
        settled_audit(ledger, RUN, lambda: None, wait=60)
    ledger.close()
