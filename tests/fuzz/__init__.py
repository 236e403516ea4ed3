"""A property-based fuzzer of whole AMQP messages: for the worker, the dead-letter commands and remote_mp.

=================== ========================================================================================
``messages``        one message, as a Python literal, and the values that messages are made of
``hostile``         what is sent to a worker: Hypothesis strategies
``items``           what is sent to a queue of ``remote_mp``: the same
``wire``            how it is sent and read: AMQP 0-9-1 frames by hand, for messages that no client encodes
``worker``          sends a batch to a real worker and accounts for every message of it
``remote``          the same for a consumer of a ``remote_mp`` queue
``broadcasts``      malformed events and remote control commands, and a worker that gets them
``letters``         the dead-letter commands, on letters as the broker itself moves them
``commands``        the same commands and the audit, on what a worker left
``running``         finds the one message of a batch that fails, and makes it small
``corpus``          the messages that failed once; each is a test
``__main__``        the long run
=================== ========================================================================================
"""
