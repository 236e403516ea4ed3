"""The error of a measurement that this machine cannot make."""

from baozi.errors import BaoziError


class NotMeasured(BaoziError):
    """This machine lacks what the measurement needs."""
