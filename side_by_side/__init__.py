"""Runs producers and consumers as real processes, side by side, and shows what came of it."""
