"""课程的程序：只用 Python 自带的东西，按课程的顺序，一个模块是一课。

The course's programs: producers and consumers with what Python brings along. Each module is one lesson.

Read :mod:`~local_mp.tickets`, :mod:`~local_mp.file_lock`, :mod:`~local_mp.pipe_lock`,
:mod:`~local_mp.queue_basics`, :mod:`~local_mp.sentinel_queue`, :mod:`~local_mp.joinable_queue`, then
:mod:`~local_mp.manager_queue`. ``python -m local_mp.sentinel_queue`` runs one of them. ``python -m local_mp``
lists them all. Both need nothing but Python.

The other modules are not lessons. :mod:`~local_mp.lessons` and :mod:`~local_mp.guarded` run a lesson as a
command. :mod:`~local_mp.observed` writes a journal of what a lesson does, for the comparison.
"""
