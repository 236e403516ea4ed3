"""The doctor's advice as changes of an app's settings: parsed from its rules, and written over an app.

A rule says in Python which lines to write instead. A line that sets a name to a literal is a setting of
Celery. A ``Queue`` has arguments for the queues. A line such as ``REMAP_SIGTERM=SIGQUIT`` is a variable of
the environment. All else needs a person.
"""

import ast
from collections.abc import Iterable
from typing import Any

from baozi.broker_url import nodes
from baozi.doctor.rules import Rule
from baozi.prove.plugin import Change, merged

#: Celery's setting of attributes of tasks, and the name in it that means all tasks.
_ANNOTATIONS, _ALL_TASKS = "task_annotations", "*"


def change_of(rule: Rule) -> Change | None:
    """Return what a rule says to write, or None if a program cannot write it."""
    try:
        lines = ast.parse(rule.instead).body
    except SyntaxError:
        return None
    change = Change()
    for line in lines:
        change = change.and_also(_change_of_line(line))
    return change if change != Change() else None


def changes_of(rules: Iterable[Rule]) -> tuple[Change, list[str]]:
    """Return what these rules say to write, and the ids of the rules that need a person."""
    change, left = Change(), []
    for rule in rules:
        found = change_of(rule)
        if found is None:
            left.append(rule.id)
        else:
            change = change.and_also(found)
    return change, left


def _change_of_line(line: ast.stmt) -> Change:
    if isinstance(line, ast.Assign):
        names = [it.id for it in line.targets if isinstance(it, ast.Name)]
        if all(name.isupper() for name in names):
            return Change(environment={name: ast.unparse(line.value) for name in names})
        try:
            value = ast.literal_eval(line.value)
        except ValueError:
            return Change()
        return Change(settings=dict.fromkeys(names, value))
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
        for argument in line.value.keywords:
            if argument.arg == "queue_arguments":
                return Change(queue_arguments=ast.literal_eval(argument.value))
    return Change()


def use_broker(app: Any, url: str) -> str | None:
    """Make the app use the broker at ``url``, which the environment names; return another that it would use.

    The broker listens on loopback without TLS, so that the app's own TLS settings are for another broker.
    """
    app.conf.broker_use_ssl = False
    for used in (app.conf.broker_read_url, app.conf.broker_write_url):
        wrong = _differs(used, url)
        if wrong is not None:
            return wrong
    return None


def _differs(used: Any, url: str) -> str | None:
    try:
        return None if nodes(str(used)) == nodes(url) else str(used)
    except ValueError:
        return str(used)


def write_over(app: Any, change: Change) -> None:
    """Write ``change`` over the app's settings, also where its tasks and queues have read them already."""
    for name, value in change.settings.items():
        app.conf[name] = merged({name: app.conf.get(name) or {}}, {name: value})[name]
        for task in app.tasks.values():
            if task.name.startswith("celery."):
                continue
            for attribute, setting in task.from_config:
                if setting == name:
                    setattr(type(task), attribute, value)
            if name == _ANNOTATIONS:
                for attribute, annotated in value.get(_ALL_TASKS, {}).items():
                    setattr(type(task), attribute, annotated)
                type(task)._exec_options = None
    if change.settings:
        # Celery makes the queue of its default settings once; now it makes it anew.
        app.amqp.queues = app.amqp.Queues(app.conf.task_queues)
        app.amqp.flush_routes()
        vars(app.amqp).pop("router", None)
    for queue in app.amqp.queues.values():
        if change.queue_arguments:
            queue.queue_arguments = {**(queue.queue_arguments or {}), **change.queue_arguments}
