"""The plugin that is loaded beside the user's app, and the folder from which Python loads it.

Python imports ``sitecustomize`` at its start. A folder with such a module, first on ``PYTHONPATH``, loads the
plugin in each process of the user's own command, whatever that command is. The plugin waits until the program
itself imports ``celery.signals``, so that it changes no order of imports.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self

#: What the folder's module contains. It names its configuration, because only this process knows it.
_SITECUSTOMIZE = """\
from baozi.prove import plugin

plugin.load({file!r})
"""
_SIGNALS, _SITE = "celery.signals", "sitecustomize"


@dataclass(frozen=True)
class Change:
    """What is written over the app's own settings. It is empty unless fixes are wanted."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Celery's settings by their names. A dictionary is merged into the app's."""
    queue_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of each queue that the app consumes."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the workers' environment."""

    def and_also(self, other: "Change") -> "Change":
        """Return both changes in one. Of two values for one name, ``other``'s is used."""
        return Change(
            merged(self.settings, other.settings),
            {**self.queue_arguments, **other.queue_arguments},
            {**self.environment, **other.environment},
        )


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings in one, and merge a value that is a mapping in both."""
    result = dict(first)
    for name, value in second.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[name] = merged(before, value)
        else:
            result[name] = value
    return result


@dataclass(frozen=True)
class Configuration:
    """What the plugin needs to know."""

    records: str
    """The folder of the record files."""
    broker_url: str = field(repr=False)
    """The only broker that the app may use."""
    change: Change = field(default_factory=Change)

    def write(self, path: Path) -> None:
        """Write it to ``path``. Only the owner can read the file, because it contains a password."""
        path.touch(mode=0o600)
        path.write_text(json.dumps({**vars(self), "change": vars(self.change)}))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the configuration in ``path``."""
        found = json.loads(path.read_text())
        return cls(**{**found, "change": Change(**found["change"])})


def make_folder(folder: Path, configuration: Configuration) -> Path:
    """Make ``folder`` with ``sitecustomize.py`` and its configuration; return ``folder``."""
    folder.mkdir(parents=True)
    file = folder / "plugin.json"
    configuration.write(file)
    (folder / f"{_SITE}.py").write_text(_SITECUSTOMIZE.format(file=str(file)))
    return folder


def load(file: str) -> None:
    """Connect the recorder as soon as the program imports Celery's signals. ``sitecustomize`` calls this."""
    path = Path(file)
    _load_other_sitecustomize(path.parent)
    sys.meta_path.insert(0, _WhenSignalsAreImported(path))


def _load_other_sitecustomize(ours: Path) -> None:
    """Load the ``sitecustomize`` that would have been loaded without ours, if there is one."""
    others = [it for it in sys.path if not it or Path(it) != ours]
    spec = importlib.machinery.PathFinder.find_spec(_SITE, others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class _WhenSignalsAreImported(importlib.abc.MetaPathFinder):
    """Finds ``celery.signals`` as before, and connects the recorder when the module is there."""

    def __init__(self, configuration: Path) -> None:
        self._configuration = configuration

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _SIGNALS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_connect(module: ModuleType) -> None:
            execute(module)
            from baozi.prove import recorder  # noqa: PLC0415  # only now: the app's order of imports stays

            recorder.connect(module, Configuration.read(self._configuration))

        # A loader's method is replaced for this one module.
        vars(spec.loader)["exec_module"] = execute_and_connect
        return spec
