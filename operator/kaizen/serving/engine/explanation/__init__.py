"""Explanations on request: what each input added to a row's score, exactly, from the compiled engine itself.

`models` knows which models are sums, `trees` and `shapley` take ensembles of trees apart, `sources` leads the columns behind the
steps back to the inputs, and `background` writes the means of linear models' columns down when the model is packaged.  Nothing
of it is imported before the first explanation is asked for.
"""

from kaizen.serving.engine.explanation.explainer import Explainer

__all__ = ["Explainer"]
