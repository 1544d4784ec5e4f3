"""Our own walk through trees: the very bits that Treelite adds up, and Treelite itself wherever that is not sure."""

import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import treelite
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)

from kaizen.serving.engine import walker
from kaizen.serving.engine.native import Trees

TREES = 19
"""No multiple of eight."""


def numbers() -> tuple[Any, Any]:
    found = load_wine()
    return found.data, found.target


def categories() -> tuple[Any, Any]:
    random = np.random.default_rng(3)
    table = np.column_stack([random.integers(0, 70, 800), random.integers(0, 9, 800), random.normal(size=800)]).astype(float)
    target = ((table[:, 0] * 7 % 11 > 5) ^ (table[:, 1] % 3 > 0)).astype(int)
    table[random.random(table.shape) < 0.05] = np.nan
    return table, target


def amounts() -> tuple[Any, Any]:
    found = load_diabetes()
    return found.data, found.target


def lightgbm(table: Any, target: Any) -> Any:
    import lightgbm as library

    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5}
    data = library.Dataset(table, target, categorical_feature=[0, 1])
    return treelite.frontend.from_lightgbm(library.train(settings, data, TREES))


def fitted(estimator: Any) -> Callable[[Any, Any], Any]:
    return lambda table, target: treelite.sklearn.import_model(estimator.fit(table, target))


CASES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[], tuple[Any, Any]]]] = {
    "boosting of categories": (fitted(HistGradientBoostingClassifier(max_iter=TREES, categorical_features=[0, 1])), categories),
    "boosting of three classes": (fitted(HistGradientBoostingClassifier(max_iter=TREES)), numbers),
    "LightGBM": (lightgbm, categories),
    "forest of three classes": (fitted(RandomForestClassifier(TREES)), numbers),
    "forest of numbers": (fitted(RandomForestRegressor(TREES)), amounts),
    "extra trees": (fitted(ExtraTreesRegressor(TREES)), amounts),
    "gradient boosting": (fitted(GradientBoostingClassifier(n_estimators=TREES, init="zero")), numbers),
    "isolation forest": (fitted(IsolationForest(n_estimators=TREES)), amounts),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """walk.c, compiled as the environment does it."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    made = tmp_path_factory.mktemp("walker") / "libkaizenwalk.so"
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror")
    subprocess.run(("cc", "-O3", *strict, "-shared", "-fPIC", "-o", made, walker.SOURCE), check=True)
    return made


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Sets where the library is looked for."""

    def look(path: Path) -> None:
        monkeypatch.setattr(walker, "LIBRARY", path)
        walker._function.cache_clear()

    yield look
    walker._function.cache_clear()


def saved(model: Any, path: Path) -> tuple[Path, int, int]:
    """As packaging leaves it: without a baseline."""
    header = model.get_header_accessor()
    header.set_field("base_scores", np.zeros_like(header.get_field("base_scores")))
    model.serialize(str(path))
    row = np.zeros((1, model.num_feature))
    return path, model.num_feature, int(np.prod(treelite.gtil.predict(model, row, nthread=1, pred_margin=True).shape[1:]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_sum_has_the_same_bits(case: tuple[Any, Any], library: Path, found: Callable[[Path], None], tmp_path: Path) -> None:
    make, data = case
    table, target = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = saved(make(table, target), tmp_path / "trees")
    found(tmp_path / "nowhere")
    treelites = Trees(*arguments)
    found(library)
    ours = Trees(*arguments)
    assert treelites._walker is None
    assert ours._walker is not None
    for rows in (table, table[:8], table[:9], table[:3], ours._walker.hostile()):
        np.testing.assert_array_equal(ours.many(rows), treelites.many(rows))
    for row in table[:40]:
        treelites.row_in[:], ours.row_in[:] = row, row
        np.testing.assert_array_equal(ours.one(), treelites.one())


def test_treelite_answers_where_the_walker_would_not_agree(library: Path, found: Callable[[Path], None], tmp_path: Path) -> None:
    path, width, outputs = saved(fitted(RandomForestRegressor(3))(*amounts()), tmp_path / "trees")
    found(library)
    trees = Trees(path, width, outputs)
    assert walker.agreeing(trees.field, trees.field, trees.many, width, outputs) is not None
    assert walker.agreeing(trees.field, trees.field, lambda rows: trees.many(rows) + 1e-9, width, outputs) is None


def test_trees_that_walk_c_does_not_know_are_left_to_treelite(
    library: Path, found: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = saved(fitted(RandomForestRegressor(3))(*amounts()), tmp_path / "trees")
    found(library)
    monkeypatch.setattr(walker, "MOST_NODES", 100)
    assert Trees(*arguments)._walker is None


def test_a_column_outside_of_the_row_is_never_read(library: Path, found: Callable[[Path], None], tmp_path: Path) -> None:
    path, width, outputs = saved(fitted(RandomForestRegressor(3))(*amounts()), tmp_path / "trees")
    found(library)
    trees = Trees(path, width, outputs)

    def wider(name: str, tree: int) -> Any:
        values = trees.field(name, tree)
        return values + width if name == "split_index" else values

    assert walker.agreeing(wider, trees.field, trees.many, width, outputs) is None
