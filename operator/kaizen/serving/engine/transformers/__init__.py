"""From scikit-learn's fitted transformers to the engine's steps."""

from kaizen.serving.engine.transformers.columns import compile_steps, entry, flattened, members_of, read
from kaizen.serving.engine.transformers.flow import Flow, Uncovered, is_a, is_known, is_sklearn, numbers_only
from kaizen.serving.engine.transformers.table import TRANSFORMERS

__all__ = [
    "TRANSFORMERS",
    "Flow",
    "Uncovered",
    "compile_steps",
    "entry",
    "flattened",
    "is_a",
    "is_known",
    "is_sklearn",
    "members_of",
    "numbers_only",
    "read",
]
