"""All faults of a kitchen, by name."""

from side_by_side.faults import broker, clock, cluster, network, processes, release, storage
from side_by_side.faults.strike import Strike

_MODULES = (processes, broker, network, storage, clock, release, cluster)

STRIKES: dict[str, Strike] = {strike.name: strike for module in _MODULES for strike in module.STRIKES}
