"""A property-based fuzzer of whole AMQP messages: for the worker, the dead-letter commands and remote_mp.

=================== ========================================================================================
``messages``        what is sent: Hypothesis strategies of messages, and one message as a Python literal
``wire``            how it is sent and read: AMQP 0-9-1 frames by hand, for messages that no client encodes
``worker``          sends a batch to a real worker and accounts for every message of it
``remote``          the same for a consumer of a ``remote_mp`` queue
``shrinking``       finds the one message of a batch that fails, and makes it small
``corpus``          the messages that failed once; each is a test
``__main__``        the long run
=================== ========================================================================================
"""
