"""Estimator Auto: the families' defaults first, the best of them all last."""

from typing import Any

import numpy as np
import pytest

from kaizen.api.training_job import Estimator
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import prepare
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, freeze, outputs
from kaizen.training.search import auto, stacking
from kaizen.training.search.auto import AutoChoice, choose_auto
from kaizen.training.search.stacking import StackedChoice
from kaizen.training.search.trials import Goal, Judge
from kaizen.training.search.tuning import Selection, tune
from tests.support import training

TASKS = [("Classification", "late", "delay"), ("Regression", "delay", "late")]


class Forgetful:
    """Keeps nothing."""

    def save(self, content: bytes) -> None:
        """Nothing."""

    def load(self) -> bytes | None:
        """Nothing."""
        return None


def run(task: Any, target: str, other: str, rows: int = 250, **fields: Any) -> tuple[Selection, Any, Any]:
    spec = training.spec("x", task=task, data={"target": target, "features": {"exclude": [other]}}, estimator={"name": "Auto"})
    prepared = prepare(training.table(rows), spec)
    wanted = Search.model_validate({"trials": 9, "timeoutSeconds": 300, **fields})
    return tune(AutoChoice(task), prepared, spec.data, wanted, lambda _: None, Forgetful()), prepared, spec.data


@pytest.mark.parametrize(("task", "target", "other"), TASKS)
def test_it_begins_with_defaults_and_is_never_worse_than_histogram_boosting(task: Any, target: str, other: str) -> None:
    found, rows, data = run(task, target, other)
    first = found.trials[:6]
    assert first[0].parameters == {
        "estimator": f"HistGradientBoosting{'Classifier' if task == 'Classification' else 'Regressor'}"
    }
    assert len({trial.parameters["estimator"] for trial in first}) == 6
    assert all(list(trial.parameters) == ["estimator"] for trial in first)
    assert all((trial.state, len(trial.steps)) == ("Complete", 3) for trial in first), [trial.message for trial in first]
    assert all(len(trial.parameters) > 1 for trial in found.trials[6:])
    assert not [trial.message for trial in found.trials if trial.state == "Failed"]
    judge = Judge(rows, data, Goal(found.metric, "Minimize"))
    value = np.mean([fold.value for fold in judge.steps(found.choice)])
    assert found.best is not None
    assert value <= (first[0].value or 0.0)
    fitted = fit(found.choice, rows, freeze(found.choice, rows, data))
    assert np.isfinite(outputs(fitted.pipeline, rows.frame)).all()
    assert "a stack (" in found.message


def test_the_best_meet_on_all_rows_where_trials_saw_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "MOST_ROWS", 40)
    found, rows, data = run(*TASKS[0], rows=600, trials=6)
    judge = Judge(rows, data, Goal("log_loss", "Minimize"))
    default = choose(Estimator(name="HistGradientBoostingClassifier"), "Classification")
    whole = [fold.value for fold in judge.steps(default)]
    assert found.trials[0].value != pytest.approx(np.mean(whole)), "the trial saw a share of the rows"
    assert np.mean([fold.value for fold in judge.steps(found.choice)]) <= np.mean(whole)
    assert "on all rows" in found.message


def test_a_stack_that_wins_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "LEVEL", 1.0)  # noise is enough to win
    found, rows, data = run(*TASKS[0], trials=6)
    assert isinstance(found.choice, StackedChoice)
    assert " wins: " in found.message
    assert found.best is not None
    fitted = fit(found.choice, rows, freeze(found.choice, rows, data))
    assert np.isfinite(outputs(fitted.pipeline, rows.frame)).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "Grid"}, "search.sampler Grid does not go with estimator Auto: use TPE or Random"),
        (
            {"space": [{"parameter": "alpha", "type": "Float", "low": 0, "high": 1}]},
            "search.space cannot name alpha: estimator Auto brings its own space, leave it out",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Failure) as failed:
        run(*TASKS[0], **fields)
    assert (failed.value.code, failed.value.message) == ("InvalidSearch", message)


def test_it_takes_no_parameters() -> None:
    with pytest.raises(Failure) as failed:
        choose_auto(Estimator(name="Auto", parameters={"max_iter": 3}), "Regression")
    assert "estimator Auto takes no parameter max_iter" in failed.value.message
