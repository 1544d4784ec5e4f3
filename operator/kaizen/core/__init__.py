"""The pure core: what should be, decided from what was observed.  No I/O, clock, randomness or client."""
