"""Speed beside the peers, in one run, taking turns: ``make bench``."""
