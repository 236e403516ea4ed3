"""Benchmarks: ``make bench`` measures Baozi and other libraries ("peers") in turn, in one run."""
