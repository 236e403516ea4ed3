"""What docs/operation.md says to watch: its addresses, its metrics and its queries, as they stand there."""

import re
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.containers.compose import ROOT

PAGE = (ROOT / "docs" / "operation.md").read_text()


class Metric(NamedTuple):
    """A Prometheus metric, and the labels by which one of its lines is chosen."""

    name: str
    labels: frozenset[tuple[str, str]]

    @classmethod
    def parse(cls, text: str) -> "Metric":
        """Take one as ``name{label="value",…}``."""
        name, _, rest = text.partition("{")
        return cls(name, frozenset(re.findall(r'(\w+)="([^"]*)"', rest)))


def what_to_watch() -> dict[str, str]:
    """The first table: what stands in its last column, by the first one."""
    (table,) = re.findall(r"^## What to watch\n\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {what: where.strip("`") for what, _, where in rows}


def metrics() -> dict[str, Metric]:
    """Those of what there is to watch that are metrics."""
    return {what: Metric.parse(where) for what, where in what_to_watch().items() if " " not in where}


def queries() -> dict[str, str]:
    """Those that are SQL."""
    return {what: where for what, where in what_to_watch().items() if where.startswith("SELECT ")}


def addresses() -> set[tuple[str, str]]:
    """The pages of metrics that it names: each one's port and path."""
    return set(re.findall(r"`http://127\.0\.0\.1:(\d+)(/metrics[^`\s]*)`", PAGE))


def values(metric: Metric, text: str) -> list[float]:
    """What ``text``, a page of metrics, says of ``metric``: a value for each line with its labels."""
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric.name and metric.labels <= sample.labels.items()
    ]
