"""What remote_mp does in place of ``threading``'s own waits, which an interrupt leaves in disorder."""

import threading

import pytest

from remote_mp.changed import start


class Interrupted(threading.Thread):
    """Its start is interrupted where ``threading.Condition`` has released its lock: seldom, in truth."""

    def start(self) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()


def test_an_interrupt_while_a_thread_starts_is_raised_as_itself() -> None:
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        Interrupted().start()
    with pytest.raises(KeyboardInterrupt):
        start(Interrupted())


def test_a_thread_that_cannot_start_says_why() -> None:
    thread = threading.Thread(target=lambda: None)
    start(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        start(thread)
