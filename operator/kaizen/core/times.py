"""Moments as the Kubernetes API and the registry write them."""

from datetime import datetime


def timestamp(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
