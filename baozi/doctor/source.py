"""Finds function calls in the app's source files. It parses the files and does not execute them."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from baozi.doctor.facts import FoundCall

#: Methods that send a task.
_SENDERS = {"delay", "apply_async", "send_task"}
#: Arguments that delay a message.
_DELAYS = {"countdown", "eta"}
#: What opens a database transaction in a ``with`` or as a decorator: Django's and SQLAlchemy's.
_TRANSACTIONS = {"atomic", "begin", "begin_nested"}
#: What Django calls after the commit: a task that is sent there is not sent inside of the transaction.
_AFTER_COMMIT = "on_commit"
#: Bytes of a file that is read; a larger one was made by a program.
_LARGEST_FILE = 1_000_000


def calls_of(modules: Mapping[str, ModuleType], wanted: frozenset[str]) -> list[FoundCall]:
    """Return the calls that rules ask about.

    Args:
        modules: the loaded modules by name.
        wanted: names of the packages that belong to the app; modules below them are read too.
    """
    found: list[FoundCall] = []
    for name, module in sorted(modules.items()):
        if not any(name == it or name.startswith(f"{it}.") for it in wanted):
            continue
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py"):
            found += calls_in(Path(file), name)
    return found


def calls_in(file: Path, name: str) -> list[FoundCall]:
    """Return those of one file; none if it cannot be read as Python."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return []
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    above = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    place = "/".join([*above, file.name])
    return list(_Calls(place).of(tree))


class _Calls:
    def __init__(self, place: str) -> None:
        self._place = place

    def of(self, node: ast.AST, in_transaction: bool = False) -> Iterator[FoundCall]:
        """Yield the calls below ``node``."""
        if isinstance(node, ast.Call):
            yield from self._of_call(node, in_transaction)
            in_transaction = in_transaction and _name(node.func) != _AFTER_COMMIT
        inside = in_transaction
        if isinstance(node, ast.With | ast.AsyncWith):
            inside = in_transaction or any(_is_transaction(it.context_expr) for it in node.items)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # What a function does that is only defined inside of the block, it does at another time.
            inside = any(_is_transaction(it) for it in node.decorator_list)
        for child in ast.iter_child_nodes(node):
            yield from self.of(child, inside)

    def _of_call(self, node: ast.Call, in_transaction: bool) -> Iterator[FoundCall]:
        name, place = _name(node.func), f"{self._place}:{node.lineno}"
        if not isinstance(node.func, ast.Attribute):
            return
        if name in _SENDERS and in_transaction:
            yield FoundCall("in transaction", place)
        if name == "basic_nack":
            yield FoundCall("nack", place)
        is_retry = name == "retry" and isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
        delays = {it.arg: it.value for it in node.keywords if it.arg in _DELAYS}
        if is_retry or (name in _SENDERS and delays):
            yield FoundCall("delay", place, _seconds(delays.get("countdown")))


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_transaction(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return isinstance(called, ast.Attribute) and called.attr in _TRANSACTIONS


def _seconds(node: ast.AST | None) -> float | None:
    """The number that ``node`` is, or the product of numbers, such as ``2 * 3600``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _seconds(node.left), _seconds(node.right)
        return None if left is None or right is None else left * right
    return None


def loaded() -> dict[str, ModuleType]:
    """Return the modules that this process has loaded, by name."""
    return dict(sys.modules)
