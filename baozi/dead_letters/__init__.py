"""The dead letters: what one tells, how they are browsed, replayed and dropped."""
