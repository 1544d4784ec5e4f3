"""Hypothesis without a clock, a database or luck: the same code gets the same verdict on every machine."""

from hypothesis import settings

settings.register_profile("kaizen", deadline=None, database=None, derandomize=True)
settings.load_profile("kaizen")
