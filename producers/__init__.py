"""The producers of the course: the command ``baozi produce``, the producer's loop, and a plain publisher.

``python -m producers --name alex --count 10`` puts ten baozi on the broker's queue.
"""
