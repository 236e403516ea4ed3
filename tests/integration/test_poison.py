"""Whatever is bad about a baozi, it is delivered as often as the limit says, and all others are eaten."""

import json

import pytest

from baozi.dead_letters import queue as dead_letters
from baozi.journal import Event
from baozi.settings import Settings
from tests.integration.mutated import POISONS
from tests.integration.place import Place
from tests.waiting import wait_until

LIMIT, COUNT = 1, 20


@pytest.mark.parametrize("tray", [1, 10])
def test_each_poison_ends_in_the_dead_letters_with_its_reason_and_all_others_are_eaten(
    private_place: Place, tray: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = private_place
    place.produce("r", "egon", COUNT, delivery_limit=LIMIT)
    bad = len(POISONS)
    place.worker(
        "小明",
        processes=2,
        changes=("every_poison",),
        delivery_limit=LIMIT,
        eat_time_limit=1,
        journal=place.home,
        tray=tray,
    )
    wait_until(lambda: place.waiting("baozi.dead") == bad, "all that are bad to be dead", 60)
    audited = json.loads(place.run("audit", "r", "--wait", "30", "--json").stdout)["total"]
    assert (audited["eaten"], audited["dead"], audited["lost"]) == (COUNT - bad, bad, bad)

    monkeypatch.setattr("baozi.amqp.connection.broker_url", lambda: place.url)
    monkeypatch.setattr("baozi.dead_letters.letter.settings", lambda: Settings(delivery_limit=LIMIT))
    letters = {baozi.number: letter for letter in dead_letters.browse() for baozi in letter.baozi}
    for number, reason in enumerate(POISONS.values(), start=1):
        assert reason in letters[number].reason
        assert (letters[number].attempts or 0) <= LIMIT + 1
        assert place.noted(Event.STARTED)[number] <= LIMIT + 1
