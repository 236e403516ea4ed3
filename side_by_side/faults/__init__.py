"""The faults that ``baozi chaos`` and ``baozi compare`` inject. ``registry.py`` lists them all."""
