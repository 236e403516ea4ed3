"""The producer side: the confirmed publisher, the producer, and its command line.

``python -m producers --name alex --count 10`` puts ten baozi on the broker's queue.
"""
