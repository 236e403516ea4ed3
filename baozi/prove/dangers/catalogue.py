"""All demonstrations, and the rules that are only cited, each with the reason."""

from collections.abc import Sequence

from baozi.errors import UsageError
from baozi.prove.dangers import callers, delays, executions, messages, publishing, queues, workers
from baozi.prove.dangers.demonstration import DANGERS, DEMONSTRATIONS, Demonstration

#: The modules that contain the demonstrations, in the order of the rules.
MODULES = (executions, publishing, queues, delays, workers, callers, messages)
_STATE = "it is about a state that the doctor found, and not about an app"
#: Why a rule is only cited.
CITED = {
    "BZ201": "it is about the ledger, and baozi itself refuses a ledger of another schema",
    "BZ202": "it needs a machine whose clock is wrong",
    "BZ203": _STATE,
    "BZ204": f"{_STATE}. BZ107 shows what an alarm does",
    "BZ205": _STATE,
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
