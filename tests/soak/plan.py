"""How much of everything: the one place that says how long a soak takes.

`LONG` is what `make soak` runs, `QUICK` what `make test` runs of it.
"""

from dataclasses import dataclass

__all__ = ["LONG", "QUICK", "Plan"]


@dataclass(frozen=True)
class Plan:
    """One run."""

    inputs: int
    """Mutated requests at most, in this process."""
    fuzz_seconds: float
    """After which no further ones are made."""
    socket_inputs: int
    """Mutated requests over real sockets."""
    overload_seconds: float
    """Under twice the saturation load, for each number of workers."""
    warm_seconds: float
    """Of these, until memory is looked at for the first time."""
    growth: float
    """Of memory between then and the end; a short run sees buffers that are still being filled for the first time."""
    p99_ms: float
    """Of what is answered 200, on a machine that does other things as well."""
    saturation_seconds: float
    """To find out what the server can do."""
    kill_seconds: float
    """Between two workers that are killed."""
    connections: int
    """Idle ones."""
    examples: int
    """Of schemathesis, for each operation."""
    calls: int
    """Bad gRPC clients of each kind."""


LONG = Plan(
    inputs=10_000_000,
    fuzz_seconds=4 * 3600.0,
    socket_inputs=200_000,
    overload_seconds=1800.0,
    warm_seconds=180.0,
    growth=0.05,
    p99_ms=2_000.0,
    saturation_seconds=10.0,
    kill_seconds=60.0,
    connections=10_000,
    examples=500,
    calls=5_000,
)
QUICK = Plan(
    inputs=100_000,
    fuzz_seconds=20.0,
    socket_inputs=3_000,
    overload_seconds=25.0,
    warm_seconds=10.0,
    growth=0.5,
    p99_ms=10_000.0,
    saturation_seconds=2.0,
    kill_seconds=8.0,
    connections=10_000,
    examples=20,
    calls=100,
)
