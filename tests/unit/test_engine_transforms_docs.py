"""docs/engine.md says of every transformer and estimator what the engine's tables say."""

import re
from pathlib import Path

from sklearn.utils import all_estimators

from kaizen.serving.engine.estimators import ESTIMATORS
from kaizen.serving.engine.transformers import TRANSFORMERS
from kaizen.serving.engine.transforms.shaping import FUNCTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "engine.md").read_text()


def part(first: str, end: str) -> set[str]:
    """Names in the middle column of tables, or in the text, between two sentences of the page."""
    found = re.search(re.escape(first) + "(.*?)" + re.escape(end), PAGE, re.DOTALL)
    assert found is not None
    cells = [line.split("|")[2] if line.startswith("|") else line for line in found[1].splitlines()]
    return set(re.findall(r"`(\w+)`", "\n".join(cells)))


def test_the_page_names_what_is_compiled() -> None:
    made = part("## Transformers\n", "Functions of one number:") - {"asarray", "ravel", "dot"}
    assert made - {"ColumnTransformer", "FeatureUnion", "Pipeline", "FunctionTransformer"} == set(TRANSFORMERS) - {
        "FunctionTransformer"
    }
    assert part("Functions of one number:", "Of whole numbers") == FUNCTIONS
    assert part("Compiled, also inside one another:", "Not compiled: those that compare") == set(ESTIMATORS)


def test_the_page_names_every_transformer_of_scikit_learn() -> None:
    left = {name for name, _ in all_estimators(type_filter="transformer")} - set(TRANSFORMERS)
    named = part("so that scikit-learn serves a pipeline with one of them:", "Dates and times come")
    assert left - {"ColumnTransformer", "FeatureUnion"} == named - {"IterativeImputer"}
