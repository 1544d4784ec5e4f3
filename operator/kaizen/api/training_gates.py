"""The conditions that a new version must meet before it may serve."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kaizen.api.base import AS_SET, ColumnName, Model, rules
from kaizen.api.metrics import FAIRNESS_METRICS, LATENCY_METRICS


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


class AgainstProduction(Model):
    """Comparison with the version that serves, on rows it never saw."""

    worse_by_at_most: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """How much worse than production the metric may be, in the metric's own unit; 0 when omitted."""
    not_comparable: Literal["Pass", "Fail"] | None = None
    """The result when too few rows are new to the serving version; Pass when omitted."""


class Gate(Model):
    """A condition that a new version must meet before it may serve."""

    model_config = ConfigDict(json_schema_extra=rules(
        (
            "(has(self.atLeast) || has(self.atMost) ? 1 : 0) + (has(self.againstProduction) ? 1 : 0)"
            " + (has(self.dropAtMost) ? 1 : 0) == 1",
            "gates[] needs exactly one kind of limit: atLeast and atMost, or againstProduction, or dropAtMost",
        ),
        (
            "!has(self.atLeast) || !has(self.atMost) || self.atLeast <= self.atMost",
            "gates[].atLeast must not be above atMost",
        ),
        (
            "!has(self.minimumGroupRows) || has(self.slices) || has(self.sensitiveFeature)",
            "gates[].minimumGroupRows goes with slices or sensitiveFeature",
        ),
        (
            "has(self.perturbation) == has(self.dropAtMost)",
            "gates[].perturbation and gates[].dropAtMost belong together: what is disturbed, and how far the metric may fall",
        ),
        (
            f"(self.metric in [{_listed(FAIRNESS_METRICS)}]) == has(self.sensitiveFeature)",
            "gates[].sensitiveFeature belongs to a fairness metric, and a fairness metric needs it: name the column",
        ),
        (
            f"!(self.metric in [{_listed((*FAIRNESS_METRICS, *LATENCY_METRICS))}])"
            " || ((has(self.atLeast) || has(self.atMost)) && !has(self.slices))",
            "gates[] with a fairness or latency metric takes atMost or atLeast, and no slices",
        ),
        (
            "!has(self.slices) || has(self.atLeast) || has(self.atMost)",
            "gates[].slices goes with atLeast or atMost, which must hold in every slice",
        ),
    ))  # fmt: skip

    name: Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    metric: Annotated[str, Field(min_length=1, max_length=64)]
    at_least: float | None = None
    at_most: float | None = None
    against_production: AgainstProduction | None = None
    slices: Annotated[list[ColumnName], Field(min_length=1, max_length=4, json_schema_extra=AS_SET)] | None = None
    """Columns; the limit must hold for the rows of each of their values."""
    sensitive_feature: ColumnName | None = None
    """The column whose groups a fairness metric compares."""
    perturbation: Literal["Noise", "MissingValues", "CategorySwap", "Shift", "Adversarial"] | None = None
    """How the test rows are disturbed."""
    drop_at_most: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """How much worse the metric may become by it, in its own unit."""
    minimum_group_rows: Annotated[int, Field(ge=10, le=1_000_000)] | None = None
    """Slices and groups with fewer rows are judged together; 200 when omitted."""
    judge: Literal["Bound", "Estimate"] | None = None
    """What must keep the limit: the end of the interval that is nearer to it, or the value itself.  When omitted, the interval
    against production and in slices, the value otherwise."""
    required: bool | None = None
    """false: a failure is shown, and the version may serve all the same; true when omitted."""
