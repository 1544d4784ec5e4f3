"""The user's own function, which returns an unfitted scikit-learn estimator: called, checked, and then like any other.

What it returns must open without the user's file, in the server and wherever the model is loaded: every class and function in
it comes from scikit-learn, LightGBM, XGBoost or NumPy.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from kaizen.training.errors import Failure, nearest
from kaizen.training.models import preprocess
from kaizen.training.models.catalogue import CATALOGUE, Family, Task
from kaizen.training.models.code_source import CodeFile
from kaizen.training.models.estimators import SEED, with_probabilities

__all__ = ["CodeChoice", "load"]

STEP = "Prepare"
MODULE = "kaizen_user_code"
"""Under which name the user's file is imported."""
LOADABLE = ("sklearn", "lightgbm", "xgboost", "numpy")
"""Packages of which the server builds objects."""
BUILT_IN = (str, int, float, complex, bool, bytes, type(None), np.generic, np.ndarray, np.dtype, slice, range)


@dataclass(frozen=True)
class CodeChoice:
    """The function with its parameters."""

    name: str
    """The function's."""
    task: Task
    parameters: Mapping[str, Any]
    function: Callable[..., Any]
    file: CodeFile

    def changed(self, parameters: Mapping[str, Any]) -> "CodeChoice":
        """See Choice: the function is called again.  Raises Failure InvalidCode as well."""
        made = replace(self, parameters={**self.parameters, **parameters})
        made.build()
        return made

    def parameter_names(self) -> tuple[str, ...]:
        """See Choice: the function's own."""
        return tuple(sorted(_own_parameters(self.function)))

    def build(self, **more: Any) -> BaseEstimator:
        """What the function returns, seeded and checked; `more` replaces parameters."""
        parameters = {**self.parameters, **more}
        _check_parameters(self, parameters)
        try:
            made = self.function(**parameters)
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as problem:
            raise _raised(self.file, problem, f"{self.name} failed") from problem
        _check(self, made)
        return _settled(made)

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        """See Choice; a Pipeline is used as it is, on the columns themselves, with whatever steps it has."""
        made = self.build(**more)
        if isinstance(made, Pipeline):
            *before, (name, model) = made.steps
            return Pipeline([*before, (name, with_probabilities(model, self.task))])
        entry = CATALOGUE.get(type(made).__name__)
        family: Family = entry.family if entry else "Scaled"
        given = made.get_params()
        told = preprocess.model_parameters(family, frame)
        made.set_params(**{name: value for name, value in told.items() if given.get(name) in (None, False, "from_dtype")})
        return Pipeline([("columns", preprocess.columns(family, frame)), ("model", with_probabilities(made, self.task))])


def load(file: CodeFile, function: str, parameters: Mapping[str, Any], task: Task) -> CodeChoice:
    """Import the file, and call its function once to see that it does.  Raises Failure InvalidCode or InvalidEstimator."""
    module = _imported(file)
    found = vars(module).get(function)
    if not callable(found):
        names = [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == MODULE]
        hint = nearest(function, names) if names else "it has no functions at all"
        raise _invalid(f"{file.name} has no function {function}: {hint}")
    choice = CodeChoice(function, task, dict(parameters), found, file)
    choice.build()
    return choice


def _imported(file: CodeFile) -> ModuleType:
    module = ModuleType(MODULE)
    module.__file__ = file.name
    sys.modules[MODULE] = module  # dataclasses and the like look it up
    try:
        exec(compile(file.content, file.name, "exec"), vars(module))
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as problem:
        raise _raised(file, problem, "it cannot be imported") from problem
    return module


def _raised(file: CodeFile, problem: BaseException, what: str) -> Failure:
    """What the user's code raised, with the last of its own lines."""
    line: int | None = None
    if isinstance(problem, SyntaxError) and problem.filename == file.name:
        line, said = problem.lineno, f"SyntaxError: {problem.msg}"
    else:
        own = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == file.name]
        line = own[-1] if own else None
        said = f"{type(problem).__name__}: {' '.join(str(problem).split())[:400]}".rstrip(": ")
    if isinstance(problem, ImportError):
        said += " (there are numpy, pandas, scikit-learn, lightgbm, xgboost and the standard library)"
    return _invalid(f"{file.name}{f':{line}' if line else ''}: {what}: {said}")


def _own_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: one for name, one in inspect.signature(function).parameters.items() if one.kind in kinds}


def _check_parameters(choice: CodeChoice, parameters: Mapping[str, Any]) -> None:
    own = _own_parameters(choice.function)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(choice.function).parameters.values())
    for name in parameters:
        if name not in own and not takes_any:
            hint = nearest(name, own) if own else "it takes none"
            raise _estimator(f"function {choice.name} of {choice.file.name} has no parameter {name}: {hint}")
    for name, one in own.items():
        if one.default is one.empty and name not in parameters:
            raise _estimator(f"function {choice.name} of {choice.file.name} needs {name}: give it in code.parameters")


def _check(choice: CodeChoice, made: Any) -> None:
    where = f"function {choice.name} of {choice.file.name}"
    if not isinstance(made, BaseEstimator) or isinstance(made, type):
        said = f"the class {made.__name__}: call it" if isinstance(made, type) else f"{type(made).__name__}"
        raise _invalid(f"{where} must return a scikit-learn estimator, and returns {said}")
    for part in _parts(made):
        if (strange := _not_loadable(part)) is not None:
            how = "use classes and functions of scikit-learn, LightGBM, XGBoost and NumPy only, or data.query"
            raise _invalid(f"{where} uses {strange}, which cannot be loaded where the model is served: {how}")
        if isinstance(part, BaseEstimator) and any(name.endswith("_") and not name.startswith("_") for name in vars(part)):
            raise _invalid(f"{where} returns a fitted {type(part).__name__}: leave the fit to the training")
    fitting = is_classifier(made) if choice.task == "Classification" else is_regressor(made)
    if not fitting:
        wanted = "classifier" if choice.task == "Classification" else "regressor"
        raise _invalid(f"{where} must return a {wanted} for task {choice.task}, and returns {type(made).__name__}")
    try:
        clone(made)
    except (TypeError, RuntimeError) as problem:
        raise _invalid(f"{where} returns {type(made).__name__}, which cannot be cloned: {problem}") from problem


def _parts(value: Any) -> Iterator[Any]:
    """Everything that an estimator is made of."""
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, Mapping):
        yield from _parts([*value.keys(), *value.values()])
    else:
        yield value
        if isinstance(value, BaseEstimator):
            yield from _parts(value.get_params(deep=False))


def _not_loadable(value: Any) -> str | None:
    """The name of what comes from elsewhere."""
    if isinstance(value, BUILT_IN) or value is pd.NA:
        return None
    named = value if hasattr(value, "__qualname__") else type(value)
    module = getattr(named, "__module__", None) or ("numpy" if isinstance(value, np.ufunc) else "")
    if module.partition(".")[0] in (*LOADABLE, "builtins"):
        return None
    return f"{'its own ' if module == MODULE else f'{module}.'}{named.__qualname__}"


def _settled(made: BaseEstimator) -> BaseEstimator:
    """Like the built-in ones: one thread, a fixed seed where none is given, no early stopping unless it was asked for."""
    changes: dict[str, Any] = {}
    for name, value in made.get_params(deep=True).items():
        match name.rpartition("__")[2]:
            case "random_state" if value is None:
                changes[name] = SEED
            case "n_jobs" if value not in (None, 1):
                changes[name] = 1
            case "early_stopping" if value == "auto":
                changes[name] = False
    return made.set_params(**changes)


def _invalid(message: str) -> Failure:
    return Failure(STEP, "InvalidCode", message)


def _estimator(message: str) -> Failure:
    return Failure(STEP, "InvalidEstimator", message)
