"""The messages with which something failed once: a file of text for each, a Python literal."""

import ast
import re
from hashlib import sha256
from pathlib import Path

from tests.fuzz.messages import Message

_FOLDER = Path(__file__).parent / "corpus"
#: For a worker, for its events and remote control, and for a consumer of remote_mp.
WORKER, BROADCASTS, REMOTE = _FOLDER / "worker", _FOLDER / "broadcasts", _FOLDER / "remote_mp"


def read(folder: Path) -> dict[str, Message]:
    """Return the messages of a folder, by their files' names."""
    return {
        path.stem: Message.read(ast.literal_eval(path.read_text())) for path in sorted(folder.glob("*.txt"))
    }


def keep(message: Message, why: str, folder: Path) -> Path:
    """Write ``message`` down in ``folder`` with what went wrong, ``why``, above it; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = message.literal()
    name = re.sub(r"\W+", "-", message.kind)
    path = folder / f"{name}-{sha256(text.encode()).hexdigest()[:8]}.txt"
    path.write_text("".join(f"# {line}\n" for line in why.splitlines()) + text)
    return path
