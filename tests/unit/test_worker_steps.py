"""The steps by which a worker starts: what replaces one of Celery's must not stand beside it."""

from typing import Any

import pytest
from celery.worker.consumer import Consumer as CeleryConsumer

from baozi.upstream.consumer import Consumer


def steps_of(blueprint: Any) -> list[type]:
    """Return the steps that start, those that others require among them."""
    steps = blueprint.claim_steps()
    return list(blueprint._finalize_steps(steps))


def test_a_step_of_ours_takes_the_place_of_celerys_and_no_other_step_requires_celerys() -> None:
    ours = steps_of(Consumer.Blueprint())
    celerys = steps_of(CeleryConsumer.Blueprint())
    assert len(ours) == len(celerys)
    names = [step.__name__ for step in ours]
    assert sorted(names) == sorted(step.__name__ for step in celerys)
    assert [step for step in ours if step not in celerys], "none of ours is among them"


@pytest.mark.parametrize("step", ["Connection", "Events", "Tasks", "DelayedDelivery"])
def test_each_step_starts_once(step: str) -> None:
    assert [one.__name__ for one in steps_of(Consumer.Blueprint())].count(step) == 1
