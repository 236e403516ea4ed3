"""How long to pause before something that may mend itself is tried again."""

from tenacity import wait_exponential_jitter


def growing(first: float, longest: float) -> wait_exponential_jitter:
    """Return pauses that double from ``first`` to ``longest`` (seconds), each with up to ``first`` of chance.

    Said in one place, for tenacity's own chance is up to a whole second, whatever the first pause is.
    """
    return wait_exponential_jitter(multiplier=first, max=longest, jitter=first)
