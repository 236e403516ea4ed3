"""``baozi demo --watch``: one workload on two transports at once, with processes that the reader kills."""
