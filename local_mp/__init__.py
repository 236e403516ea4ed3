"""Producer and consumer with what Python brings along, one place after the other, in the course's order.

Read :mod:`~local_mp.tickets`, :mod:`~local_mp.file_lock`, :mod:`~local_mp.pipe_lock`,
:mod:`~local_mp.queue_basics`, :mod:`~local_mp.sentinel_queue`, :mod:`~local_mp.joinable_queue`, then
:mod:`~local_mp.manager_queue`. ``python -m local_mp`` lists them, ``python -m local_mp queue`` runs one.
:mod:`~local_mp.stage` starts the processes and makes sure that all of them end.
"""
