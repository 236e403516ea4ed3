"""``multiprocessing``'s Queue and JoinableQueue on RabbitMQ, for processes on any number of machines.

::

    from remote_mp import JoinableQueue  # was: from multiprocessing import JoinableQueue

    q = JoinableQueue(3, name="baozi")  # on the broker of BAOZI_BROKER_URL

The methods are those of ``multiprocessing``, as documented there. These are the differences:

* a name: ``name="baozi"`` is required. All processes that give it use the same queue, on any machine.
* `put` returns: when the broker has the item. An item in a buffer would be lost if the process died. With
  ``window=`` it returns earlier.
* `join` waits: for what *this process* put, because a process is told only about its own items. With a
  ``timeout`` it raises TimeoutError and says how many are left.
* `task_done`: finishes the oldest unfinished item that this thread got or, if it has none, that this process
  got. The broker must know which item is finished. It raises ValueError if there is none.
* what an item may be: what JSON can represent (a tuple comes back as a list); with ``serializer="pickle"``,
  any object, but a pickle runs code where it is read. What JSON would change raises in ``put``: for example
  a key that is not a string, or NaN.
* an item that cannot be serialised: raises in ``put``. With multiprocessing it vanishes.
* a killed process: its unfinished items are redelivered to another process, which may repeat their work. It
  leaves no lock locked.
* `maxsize`: limits the queue over all machines, exactly. Such a queue is on one node of the broker and not
  replicated: a replicated queue with a limit of 3 took up to 32.
* `qsize`, `empty`, `full`: use the broker's count of messages. It does not include what other processes have
  prefetched, and it counts items that were sent in one message (``window=``) as one.
* pickling: works for any machine, where the queue uses the broker of that machine's settings. A queue with a
  ``url=`` can be pickled only for a child process, because the URL has a password.
* errors: BrokerAway and the other errors of :mod:`baozi.errors` are possible, because there is a network.

A queue without a ``maxsize`` is a quorum queue: on a cluster it is replicated. No item is dropped after many
redeliveries. If a message is not an item of the queue, ``get`` raises :class:`Unreadable`, and the message is
moved to the queue ``remote_mp.dead`` with the reason. If an item is not finished within the broker's
consumer timeout (30 minutes by default), it is redelivered to another process. If the broker is away, each
call waits up to BAOZI_BROKER_TIMEOUT seconds for it. While the broker has a memory or disk alarm, no item
can be put, and in a JoinableQueue none can be finished.
"""

from remote_mp.connection_thread import ThreadEnded
from remote_mp.queues import JoinableQueue, Queue
from remote_mp.serializers import Unreadable

__all__ = ["JoinableQueue", "Queue", "ThreadEnded", "Unreadable"]
