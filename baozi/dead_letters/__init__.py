"""Dead letters: how a message becomes one, and how they are browsed, replayed and dropped."""
