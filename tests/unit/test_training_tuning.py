"""Searches: what is refused before the first trial, what a failing trial does, and that the same search finds the same."""

import dataclasses
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from kaizen.api.training_data import Data, Split
from kaizen.api.training_job import Estimator
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import Choice, Task, choose
from kaizen.training.search.space import Listed
from kaizen.training.search.study import best_of
from kaizen.training.search.trials import Goal, Judge, Trial, goal
from kaizen.training.search.tuning import SearchProgress, Selection, tune
from tests.support import training

RATE = {"parameter": "learning_rate", "type": "Float", "low": 0.01, "high": 0.5, "log": True}
LEAVES = {"parameter": "max_leaf_nodes", "type": "Integer", "low": 4, "high": 31}
LOSS = {"parameter": "max_features", "type": "Categorical", "values": [0.5, 1.0]}


class Memory:
    """A store that may break down."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.saves = 0
        self.broken = False

    def save(self, content: bytes) -> None:
        """Keep it."""
        if self.broken:
            raise OSError("no route to the bucket")
        self.content, self.saves = content, self.saves + 1

    def load(self) -> bytes | None:
        """What was kept."""
        return self.content


@cache
def given_rows() -> tuple[Rows, Data]:
    spec = training.spec("x")
    return prepare(training.table(300), spec), spec.data


def boosting(**parameters: Any) -> Choice:
    return choose(Estimator(name="HistGradientBoostingClassifier", parameters={"max_iter": 5, **parameters}), "Classification")


def search(**fields: Any) -> Search:
    return Search.model_validate({"trials": 6, "pruner": "None", "space": [RATE, LEAVES], **fields})


def run(wanted: Search, store: Memory | None = None, choice: Choice | None = None) -> tuple[Selection, list[SearchProgress]]:
    rows, data = given_rows()
    told: list[SearchProgress] = []
    return tune(choice or boosting(), rows, data, wanted, told.append, store or Memory()), told


def plain(selection: Selection) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state, trial.value, trial.parameters, trial.steps) for trial in selection.trials]


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("TPE", "None"), ("TPE", "Hyperband"), ("Random", "Median"), ("QMC", "None"), ("CMAES", "None")]
)
def test_the_same_search_finds_the_same(sampler: str, pruner: str) -> None:
    wanted = search(sampler=sampler, pruner=pruner, trials=6)
    found, told = run(wanted)
    assert plain(found) == plain(run(wanted)[0])
    assert [trial.number for trial in found.trials] == list(range(6))
    complete = [trial for trial in found.trials if trial.state == "Complete"]
    assert found.best is not None
    assert found.best.value == min(trial.value for trial in complete if trial.value is not None)
    assert found.best.parameters.items() <= found.choice.parameters.items()
    assert (found.metric, found.direction) == ("log_loss", "Minimize")
    assert [progress.finished for progress in told] == list(range(7))
    assert (told[-1].total, told[-1].best_value, told[-1].eta_seconds) == (6, found.best.value, 0)
    assert told[-1].pruned == sum(trial.state == "Pruned" for trial in found.trials)


def test_trials_differ_and_their_value_is_that_of_the_folds() -> None:
    rows, data = given_rows()
    found, _ = run(search(trials=5))
    assert len({tuple(trial.parameters.values()) for trial in found.trials}) == 5
    assert found.best is not None
    judge = Judge(rows, data, Goal("log_loss", "Minimize"))
    again = [fold.value for fold in judge.steps(found.choice)]
    assert again == list(found.best.steps)
    assert sum(again) / len(again) == pytest.approx(found.best.value)


def test_a_pruned_trial_saw_fewer_folds_and_is_never_the_best() -> None:
    found, _ = run(search(pruner="Median", trials=16, sampler="Random"))
    pruned = [trial for trial in found.trials if trial.state == "Pruned"]
    assert pruned
    assert all(0 < len(trial.steps) < 3 for trial in pruned)
    assert all(len(trial.steps) == 3 for trial in found.trials if trial.state == "Complete")


def test_a_metric_that_is_better_higher_is_maximised() -> None:
    found, _ = run(search(objective={"metric": "roc_auc"}))
    assert found.direction == "Maximize"
    assert found.best is not None
    assert found.best.value == max(trial.value or 0 for trial in found.trials)


def test_a_grid_is_walked_whole_or_as_far_as_there_are_trials() -> None:
    axes = [
        {"parameter": "learning_rate", "type": "Float", "low": 0.1, "high": 0.35, "step": 0.1},
        {"parameter": "max_leaf_nodes", "type": "Integer", "low": 4, "high": 8, "step": 4},
    ]
    found, told = run(search(sampler="Grid", space=axes, trials=40))
    assert {tuple(trial.parameters.values()) for trial in found.trials} == {(r, n) for r in (0.1, 0.2, 0.3) for n in (4, 8)}
    assert told[0].total == 6
    assert plain(run(search(sampler="Grid", space=axes, trials=2))[0]) == plain(found)[:2]


def test_a_retry_goes_on_where_the_study_was_saved() -> None:
    whole, _ = run(search(trials=4))
    store, rest = Memory(), 2
    rows, data = given_rows()

    class Killed(BaseException):
        pass

    def die(progress: SearchProgress) -> None:
        if progress.finished == rest:
            raise Killed

    with pytest.raises(Killed):
        tune(boosting(), rows, data, search(trials=4), die, store)
    resumed, told = run(search(trials=4), store)
    assert told[0].finished == rest
    assert plain(resumed) == plain(whole)
    again, told = run(search(trials=4), store)
    assert ([progress.finished for progress in told], plain(again)) == ([4], plain(whole))


def test_trials_over_other_rows_are_not_gone_on_with() -> None:
    store = Memory()
    run(search(trials=2), store)
    _, told = run(search(trials=2), store, boosting(max_depth=2))
    assert told[0].finished == 0


def test_a_store_that_is_away_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = Memory()
    store.broken = True
    assert len(run(search(trials=2), store)[0].trials) == 2
    assert "no route to the bucket" in caplog.text


def test_no_trial_begins_after_the_timeout() -> None:
    begun = time.monotonic()
    found, told = run(search(trials=5000, timeoutSeconds=1))
    assert 0 < len(found.trials) < 5000
    assert time.monotonic() - begun < 10
    assert "of 5000 before the time was up" in found.message
    assert all(progress.eta_seconds is None or progress.eta_seconds <= 1 for progress in told)


@dataclasses.dataclass(frozen=True)
class Fragile:
    """A choice of the user's own, whose fit fails from some depth on."""

    depth: int = 1
    breaks_from: int = 3
    name: str = "Fragile"
    task: Task = "Classification"

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"depth": self.depth}

    def changed(self, parameters: Mapping[str, Any]) -> "Fragile":
        return dataclasses.replace(self, **parameters)

    def parameter_names(self) -> tuple[str, ...]:
        return ("depth",)

    def pipeline(self, frame: pd.DataFrame, **more: Any) -> Pipeline:
        if self.depth >= self.breaks_from:
            raise RuntimeError(f"depth {self.depth} is too deep")
        return boosting(max_depth=self.depth).pipeline(frame, **more)


DEPTHS = {"parameter": "depth", "type": "Integer", "low": 1, "high": 4}


def test_a_failing_trial_is_failed_and_the_search_goes_on() -> None:
    found, told = run(search(sampler="Grid", space=[DEPTHS]), choice=Fragile())
    states = {trial.parameters["depth"]: trial.state for trial in found.trials}
    assert states == {1: "Complete", 2: "Complete", 3: "Failed", 4: "Failed"}
    assert told[-1].failed == 2
    assert {trial.message for trial in found.trials if trial.state == "Failed"} == {
        "RuntimeError: depth 3 is too deep",
        "RuntimeError: depth 4 is too deep",
    }


def test_all_failing_is_a_failure_with_the_first_message() -> None:
    with pytest.raises(Failure) as failed:
        run(search(trials=3, sampler="Grid", space=[{**DEPTHS, "low": 3}]), choice=Fragile())
    assert (failed.value.step, failed.value.code) == ("Tuning", "SearchFailed")
    assert "all 2 trials failed; the first, with {'depth': " in failed.value.message
    assert failed.value.message.endswith("is too deep")


def test_an_objective_that_the_folds_cannot_tell_is_said() -> None:
    rows, data = given_rows()
    alone = data.model_copy(update={"split": Split(method="Random")})
    target = rows.target.copy()
    target[:] = False
    target[:2] = True
    rare = dataclasses.replace(rows, target=target)
    with pytest.raises(Failure) as failed:
        tune(boosting(), rare, alone, search(trials=1, objective={"metric": "roc_auc"}), lambda _: None, Memory())
    assert "roc_auc is undefined on fold" in failed.value.message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"space": [{**RATE, "parameter": "learning_rat"}]},
            "search.space names learning_rat, which HistGradientBoostingClassifier does not have: did you mean learning_rate",
        ),
        ({"space": [{**RATE, "parameter": "verbose"}]}, "search.space names verbose, which"),
        ({"space": [{**LEAVES, "low": 1}]}, "search.space: max_leaf_nodes = 1 is refused: The 'max_leaf_nodes' parameter"),
        ({"space": [{**LOSS, "values": [0.5, "many"]}]}, "search.space: max_features = many is refused"),
        ({"space": [{**LOSS, "values": [1, True]}]}, "search.space: max_features lists 1 and True, which are equal"),
        ({"space": [{"parameter": "max_features", "type": "Categorical"}]}, "max_features of type Categorical needs values"),
        (
            {"space": [{"parameter": "learning_rate", "type": "Float", "low": 0.1}]},
            "learning_rate of type Float needs low and high",
        ),
        ({"space": [{**RATE, "low": 0.6}]}, "learning_rate has low 0.6 above high 0.5"),
        ({"space": [{**RATE, "low": 0.0}]}, "learning_rate needs low above 0 with log"),
        ({"space": [{**LEAVES, "low": 4.5}]}, "needs a whole number as low, not 4.5"),
        ({"space": []}, "search.space must name at least one parameter"),
        ({"sampler": "Grid"}, "learning_rate with log has no grid"),
        ({"sampler": "Grid", "space": [{**RATE, "log": False}]}, "learning_rate of type Float needs a step with sampler Grid"),
        ({"sampler": "CMAES", "space": [RATE, LOSS]}, "search.sampler CMAES needs at least two parameters"),
        (
            {"objective": {"metric": "log_loss", "direction": "Maximize"}},
            "direction must be Minimize or omitted: of log_loss, less",
        ),
        ({"objective": {"metric": "rmse"}}, "search.objective.metric rmse is not known for task Classification"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(fields: dict[str, Any], message: str) -> None:
    told: list[SearchProgress] = []
    rows, data = given_rows()
    with pytest.raises(Failure) as failed:
        tune(boosting(), rows, data, search(**fields), told.append, Memory())
    assert (failed.value.step, failed.value.code, failed.value.retry) == ("Tuning", "InvalidSearch", False)
    assert message in failed.value.message
    assert not told


def test_the_objective_without_a_word() -> None:
    assert goal(search(), "Classification") == Goal("log_loss", "Minimize")
    assert goal(search(), "Regression") == Goal("rmse", "Minimize")
    assert goal(search(objective={"metric": "r2", "direction": "Maximize"}), "Regression") == Goal("r2", "Maximize")


Trials = st.lists(
    st.builds(
        Trial,
        number=st.just(0),
        state=st.sampled_from(["Complete", "Pruned", "Failed"]),
        value=st.sampled_from([0.1, 0.2, 0.3]),
        parameters=st.just({"a": 1}),
        seconds=st.just(1.0),
        steps=st.just((0.1, 0.2)),
        worker=st.integers(0, 3),
    ),
    max_size=8,
).map(lambda trials: tuple(dataclasses.replace(trial, number=number) for number, trial in enumerate(trials)))


@given(Trials, st.sampled_from(["Minimize", "Maximize"]))
def test_the_best_is_complete_unbeaten_and_the_first_of_its_equals(trials: tuple[Trial, ...], direction: Any) -> None:
    best = best_of(trials, Goal("log_loss", direction))
    complete = [trial for trial in trials if trial.state == "Complete"]
    assert (best is None) == (not complete)
    if best is not None:
        values = [trial.value for trial in complete if trial.value is not None]
        assert best.value == (max(values) if direction == "Maximize" else min(values))
        assert best.number == min(trial.number for trial in complete if trial.value == best.value)


@given(Trials)
def test_a_trial_survives_json(trials: tuple[Trial, ...]) -> None:
    assert tuple(Trial.from_json(trial.to_json()) for trial in trials) == trials


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(0, 40), st.integers(1, 7), st.integers(1, 200))
def test_a_grid_has_each_point_once(low: int, width: int, step: int, trials: int) -> None:
    axes = [{**LEAVES, "low": low, "high": low + width, "step": step}, LOSS]
    space = Listed(boosting(), search(sampler="Grid", space=axes, trials=trials))
    points = [tuple(space.fixed(number).values()) for number in range(space.total)]
    every = {(leaves, share) for leaves in range(low, low + width + 1, step) for share in (0.5, 1.0)}
    assert len(set(points)) == len(points) == min(trials, len(every))
    assert set(points) <= every
