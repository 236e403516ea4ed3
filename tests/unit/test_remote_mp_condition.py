"""remote_mp.condition: an interrupt while a thread is started."""

import threading

import pytest

from remote_mp.condition import start_thread


class InterruptedThread(threading.Thread):
    """Its start is interrupted at the rare moment at which ``threading.Condition`` has released its lock."""

    def start(self) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()


def test_an_interrupt_while_a_thread_starts_is_raised_as_itself() -> None:
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        InterruptedThread().start()
    with pytest.raises(KeyboardInterrupt):
        start_thread(InterruptedThread())


def test_a_thread_that_cannot_start_says_why() -> None:
    thread = threading.Thread(target=lambda: None)
    start_thread(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="threads can only be started once"):
        start_thread(thread)
