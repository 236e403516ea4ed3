"""The faults: what is broken while work is in flight, and what must hold all the same."""
