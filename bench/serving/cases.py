"""What is measured, and the floors that issue 6 sets: ratios to every peer, unless said otherwise."""

from dataclasses import dataclass

__all__ = ["CASES", "FULL_SHARE", "P99_MS", "PSS_MIB", "READY_SECONDS", "Case"]

READY_SECONDS = 1.0
PSS_MIB = 90.0
P99_MS = 2.0
"""At half of the saturation rate."""
FULL_SHARE = 0.85
"""Of the plain rate, with everything on."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    model: str
    rows: int
    connections: int
    floor: float
    """Times the rate of each peer."""
    fallback: bool = False
    """Kaizen answers by scikit-learn itself."""
    full: bool = False
    """Kaizen is also loaded with everything on."""
    paced: bool = False
    """Half of this rate is where p99 is measured."""

    @property
    def name(self) -> str:
        """As --cases takes it."""
        return f"{self.model}-{self.rows}-c{self.connections}" + ("-fallback" if self.fallback else "")


CASES = (
    Case("lr", 1, 8, 25, full=True, paced=True),
    Case("lr", 1, 64, 30, full=True, paced=True),
    Case("lr", 1, 8, 4, fallback=True),
    Case("lr", 1, 64, 15, fallback=True),
    Case("hgb", 1, 8, 25),
    Case("hgb", 1, 64, 30, full=True, paced=True),
    Case("hgb", 32, 8, 5, full=True),
    Case("hgb", 1, 8, 4, fallback=True),
    Case("hgb", 1, 64, 15, fallback=True),
    Case("rf", 1, 8, 100),
    Case("flights", 1, 8, 60, full=True, paced=True),
    Case("flights", 32, 8, 20, full=True),
)
