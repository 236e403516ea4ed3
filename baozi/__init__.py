"""What every part of the project shares, and nothing else.

Baozi (:mod:`baozi.model`), the two records (:mod:`baozi.journal` for comparisons, :mod:`baozi.ledger` for
production), the settings, the errors, and the broker for one machine (:mod:`baozi.broker`).
"""
