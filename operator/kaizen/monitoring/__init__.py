"""Frozen bins, counts and verdicts: what training ships, servers count and the operator judges.  NumPy only."""
