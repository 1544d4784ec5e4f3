"""From fitted estimators to the engine's models: tables by class name.

What is in no table is not covered, and scikit-learn serves it.
"""

from kaizen.serving.engine.estimators.composite import ESTIMATORS, compile_model

__all__ = ["ESTIMATORS", "compile_model"]
