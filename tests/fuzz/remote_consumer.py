"""A consumer of a remote_mp queue: says each thing that it got, or could not read, as a line of JSON."""

import json
import sys

from remote_mp import JoinableQueue, Queue
from remote_mp.serializers import Unreadable


def main() -> None:
    """Get from the queue ``q`` for ever; the argument is its class, and its bound."""
    kind, maxsize = sys.argv[1], int(sys.argv[2])
    queue: Queue[object] = (JoinableQueue if kind == "JoinableQueue" else Queue)(maxsize, name="q")
    # A queue that has put something listens to what others say of it.
    queue.put("mine")
    while True:
        try:
            print(json.dumps({"got": queue.get()}), flush=True)
        except Unreadable as error:
            print(json.dumps({"unreadable": str(error)}), flush=True)
            continue
        if isinstance(queue, JoinableQueue):
            queue.task_done()


if __name__ == "__main__":
    main()
