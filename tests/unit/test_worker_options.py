"""Options of a worker that are refused before it starts."""

import pytest

from baozi.errors import UsageError
from baozi.worker.startup import check_options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"autoscale": (3, -1)}, "--autoscale must not be negative"),
        ({"prefetch_multiplier": -1}, "--prefetch-multiplier must not be negative"),
        ({"time_limit": -0.5}, "--time-limit must not be negative"),
        ({"max_memory_per_child": -1}, "--max-memory-per-child must not be negative"),
        ({"include": [""]}, "--include names no module"),
        ({"include": "tasks,"}, "--include names no module"),
        ({"pidfile": "/nowhere/pid"}, "--pidfile cannot be written: /nowhere"),
    ],
)
def test_an_option_with_which_a_worker_would_fail_later_is_refused(
    options: dict[str, object], said: str
) -> None:
    check_options({"time_limit": None, "autoscale": (3, 0), "include": ["tasks"], "pidfile": "pid"})
    with pytest.raises(UsageError, match=said):
        check_options(options)
