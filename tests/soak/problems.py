"""What all parts of a soak raise."""

__all__ = ["Problem"]


class Problem(Exception):
    """What did not hold."""
