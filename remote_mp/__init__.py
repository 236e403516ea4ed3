"""multiprocessing's own Queue and JoinableQueue, on RabbitMQ: for processes on any number of machines.

::

    from remote_mp import JoinableQueue  # was: from multiprocessing import JoinableQueue

    q = JoinableQueue(3, name="baozi")  # on the broker of BAOZI_BROKER_URL

The methods are ``multiprocessing``'s, as documented there. What is otherwise, and why:

* a name: ``name="baozi"`` is needed, for nobody inherits a queue from another machine. Who gives it has it.
* `put` returns: when the broker has the item, not when it is in a buffer, which dies with its process. With
  ``window=`` it returns earlier.
* `join` waits: for what *this process* has put, for a process can only be told what became of its own. With a
  ``timeout`` it raises TimeoutError, and says how many are left.
* `task_done`: finishes the oldest item that this thread has got, or else this process; the broker must know
  which one. Where nothing was got and not finished, it is the ValueError.
* what an item may be: what JSON has (a tuple comes back as a list), or with ``serializer="pickle"`` any
  object; a pickle runs code where it is read. A key that is not a string, NaN and what else JSON would change
  raises in ``put``.
* an item that cannot be serialised: raises in ``put``, where multiprocessing's vanishes.
* a killed process: its unfinished items are redelivered to another process, which may repeat their work. It
  leaves no lock locked.
* `maxsize`: holds over all machines, and exactly. Such a queue is on one node of the broker, not replicated:
  a replicated one with 3 was seen to take 32.
* `qsize`, `empty`, `full`: are the broker's count of messages. It leaves out what others have fetched ahead,
  and what travels with others in one message, as with ``window=``.
* pickling: goes to any machine, and there takes the settings' broker. A queue with a ``url=`` of its own goes
  to child processes alone, for it has a password in it.
* errors: come besides, for there is a network in between: BrokerAway and its kin, of :mod:`baozi.errors`.

An unbounded queue is a quorum queue: on a cluster, replicated. Nothing in it is dropped for having been given
back too often. What is no item of the queue raises :class:`Unreadable`, and lies in the queue
``remote_mp.dead`` with its reason. What is not finished within the broker's consumer timeout (30 minutes
unless configured) is given to another. A broker that is away is waited for, BAOZI_BROKER_TIMEOUT seconds in
each call. While an alarm of the broker's is on, nothing can be put nor, in a JoinableQueue, finished.
"""

from remote_mp.line import ThreadEnded
from remote_mp.queues import JoinableQueue, Queue
from remote_mp.serializers import Unreadable

__all__ = ["JoinableQueue", "Queue", "ThreadEnded", "Unreadable"]
