"""All demonstrations, and the dangers that are only cited, each with the reason."""

from collections.abc import Sequence

from baozi.errors import UsageError
from baozi.prove.dangers import callers, delays, executions, messages, publishing, queues, workers
from baozi.prove.dangers.demonstration import DANGERS, DEMONSTRATIONS, Demonstration

#: The modules that contain the demonstrations, in the order of the rules.
MODULES = (executions, publishing, queues, delays, workers, callers, messages)
#: Why a danger is not demonstrated.
CITED = {
    "BZ118": "Celery 5.7.0 no longer has it",
    "BZ120": "Celery 5.7.0 no longer has it",
    "BZ124": "Celery 5.7.0 no longer has it",
    "BZ137": "it needs a second server with TLS and a certificate of the same authority",
}


def chosen(names: Sequence[str]) -> list[Demonstration]:
    """Return the demonstrations of these rules; ``all`` means all.

    Raises:
        UsageError: there is no such rule, or it is only cited.
    """
    if names == ["all"]:
        return [DEMONSTRATIONS[it] for it in DANGERS if it in DEMONSTRATIONS]
    for name in names:
        if name not in DANGERS:
            raise UsageError(
                "There is no danger {name!r}. `baozi prove --danger help` lists them.", name=name
            )
        if name in CITED:
            raise UsageError("{name} is not demonstrated: {why}.", name=name, why=CITED[name])
    return [DEMONSTRATIONS[it] for it in names]
