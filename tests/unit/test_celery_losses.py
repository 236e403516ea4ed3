"""docs/what-celery-loses.md is made from the recorded results, and shows all of them."""

import pytest

from baozi.errors import UsageError
from side_by_side.celery_losses import APPS, PAGE, TITLES, main, page, recorded_losses


def test_the_page_is_made_from_the_recorded_results() -> None:
    made = page(recorded_losses())
    assert made == PAGE.read_text(encoding="utf-8"), "run `python -m side_by_side.celery_losses --page-only`"


def test_each_app_is_recorded_with_each_fault_as_often_as_the_options_say() -> None:
    recorded = recorded_losses()
    options = dict(zip(recorded.options[::2], recorded.options[1::2], strict=True))
    wanted = ["no fault", *options["--faults"].split(",") * int(options["--times"])]
    assert list(recorded.apps) == list(TITLES)
    for found in recorded.apps.values():
        assert [it["fault"] for it in found["as_it_is"]["tries"]] == wanted
        assert not found["as_it_is"]["skipped"]


def test_each_app_of_the_page_is_a_file() -> None:
    assert {it.stem for it in APPS.glob("*.py")} == set(TITLES)


def test_an_unknown_app_is_refused_before_anything_is_recorded() -> None:
    with pytest.raises(UsageError, match=r"^There is no app 'redis'\. There are default_settings"):
        main(["redis"])
