"""Which inputs the columns behind steps are made of."""

from collections.abc import Iterable, Sequence
from typing import Any

from kaizen.serving.engine.explanation.common import Sources
from kaizen.serving.engine.transforms.columns import Columns, Select
from kaizen.serving.engine.transforms.common import Transform
from kaizen.serving.engine.transforms.dates import Moments
from kaizen.serving.engine.transforms.encoding import Known, OneHot, Ordinal
from kaizen.serving.engine.transforms.expanding import Bins, Dot, Products, Project
from kaizen.serving.engine.transforms.imputing import Fill, Impute
from kaizen.serving.engine.transforms.scaling import Binarize, Clip, Line, Multiply, Scale
from kaizen.serving.engine.transforms.shaping import Function, Normalize, Power, Quantiles
from kaizen.serving.engine.transforms.splines import Splines
from kaizen.serving.engine.transforms.texts import HashedWords, Weigh, Words

__all__ = ["behind"]


def behind(steps: Iterable[Transform], sources: Sources) -> Sources:
    """Sources of the columns behind the steps, from those before them."""
    for step in steps:
        sources = _behind(step, sources)
    return sources


def _behind(step: Any, sources: Sources) -> Sources:
    match step:
        case Binarize() | Clip() | Line() | Moments() | Multiply() | Scale():
            return sources
        case Function() | Known() | Ordinal() | Power() | Quantiles():
            return sources
        case Columns():
            return [one for part in step.parts for one in behind(part.steps, [sources[i] for i in part.columns])]
        case Impute() | Fill():
            return [sources[i] for i in (*step.kept, *step.indicated)]
        case Select():
            return [sources[i] for i in step.kept]
        case OneHot():
            return _one_hot(step, sources)
        case Bins():
            counts = [len(edges) + 1 if step.one_hot else 1 for edges in step.edges]
            return _repeated(sources, counts)
        case Splines():
            return _repeated(sources, [step.count(knots) - (not step.last) for knots in step.knots])
        case Words() | HashedWords():
            return [sources[0]] * step.width
        case Products():
            return [_union(sources[i] for i in factors) for factors in step.factors]
        case Dot():
            return [_union(sources[i] for i, _ in terms) for terms in step.sums]
        case Project():
            return [_union(sources[i] for i, weight in enumerate(weights) if weight) for weights in step.components]
        case Weigh() if step.weighting.norm is None:
            return sources
        case Normalize() | Weigh():
            return [_union(sources)] * len(sources)
    raise TypeError(f"{type(step).__name__} does not say what its columns are made of")


def _union(sources: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sources)


def _repeated(sources: Sources, counts: Sequence[int]) -> Sources:
    return [one for one, count in zip(sources, counts, strict=True) for _ in range(count)]


def _one_hot(step: OneHot, sources: Sources) -> Sources:
    made: list[frozenset[int]] = [frozenset()] * step.width
    for one, lookup in zip(sources, step.lookups, strict=True):
        for code in (*lookup.codes, lookup.unknown, lookup.missing):
            if code is not None and code >= 0:
                made[int(code)] = one
    return made
