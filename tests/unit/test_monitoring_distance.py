"""The population stability index: known values, and the laws of a distance between shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.monitoring.distance import psi

COUNTS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30).filter(
    lambda pairs: any(a for a, _ in pairs) and any(b for _, b in pairs)
)


@pytest.mark.parametrize(
    ("expected", "actual", "distance"),
    [
        ([50, 50], [50, 50], 0.0),
        ([50, 50], [5, 5], 0.0),
        ([50, 50], [25, 75], 0.2746),  # 0.25 ln 2 + 0.25 ln 1.5, less the smoothing's third digit
        ([10, 20, 70], [20, 20, 60], 0.0847),
        ([1, 0], [0, 1], 18.417),
        ([10] * 10 + [0], [0] * 10 + [1], 16.101),
    ],
)
def test_known_values(expected: list[int], actual: list[int], distance: float) -> None:
    assert psi(expected, actual) == pytest.approx(distance, abs=5e-4)


@given(COUNTS)
def test_it_is_never_negative_symmetric_and_bounded(pairs: list[tuple[int, int]]) -> None:
    expected, actual = zip(*pairs, strict=True)
    assert 0 <= psi(expected, actual) < 18.5
    assert psi(expected, actual) == pytest.approx(psi(actual, expected))


@given(st.lists(st.integers(0, 10**6), min_size=1).filter(any), st.integers(1, 1000))
def test_proportional_counts_are_at_distance_zero(counts: list[int], factor: int) -> None:
    assert psi(counts, [factor * one for one in counts]) == pytest.approx(0, abs=1e-12)


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = sorted(pairs, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert psi(*zip(*pairs, strict=True)) == pytest.approx(psi(*zip(*shuffled, strict=True)), abs=1e-12)


@pytest.mark.parametrize(("expected", "actual"), [([0, 0], [1, 1]), ([1, 1], [0, 0])])
def test_no_rows_are_at_no_distance(expected: list[int], actual: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        psi(expected, actual)
