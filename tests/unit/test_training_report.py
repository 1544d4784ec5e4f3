"""The report: one page that loads nothing, shows text from data as text, and says first whether the model may serve."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from kaizen.api.training_data import Data
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import Parts
from kaizen.training.data.statistics import summarise
from kaizen.training.judge.evaluate import as_metrics, baseline, figures
from kaizen.training.judge.judged import Detail, Judged
from kaizen.training.judge.weak import slice_metric, weak_spots
from kaizen.training.report.canvas import clean, draw, figure, number
from kaizen.training.report.explain import Attributions, Dependence, Explanation, Importance, explain
from kaizen.training.report.plots_trials import trial_plots
from kaizen.training.report.report import MOST_BYTES, Report, render, write_report
from kaizen.training.report.verdict import compared, verdict
from kaizen.training.search.trials import Trial

HOSTILE = "</svg><script>alert(1)</script><img src=x onerror=alert(2)>\"' $\\frac{a}{b}$ &amp; ]]> #0072b2 \u202egnp\x00\x1b"
DATA = Data.model_validate({"sources": [{"name": "d", "uri": "s3://lake/d.csv"}], "target": "late"})
VOID = {"meta", "br", "img", "link", "input", "hr"}
PASSED = {
    "name": "good",
    "metric": "roc_auc",
    "passed": True,
    "required": True,
    "outcome": "Passed",
    "value": 0.8,
    "limit": 0.7,
    "message": "fine",
}
FAILED = {**PASSED, "name": "fair", "passed": False, "outcome": "Failed", "message": "roc_auc is 0.61 where carrier=OO"}
SKIPPED = {
    **PASSED,
    "name": "production",
    "passed": None,
    "outcome": "Skipped",
    "value": None,
    "limit": None,
    "message": "nothing serves yet",
}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, text outside of style, and whether tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "model": "flight-delay", "task": "Classification", "trainedUntil": "2013-03-31T23:00:00Z",
        "dataDigest": "sha256:" + "ab" * 32, "modelDigest": "sha256:" + "cd" * 32,
        "estimator": {"name": "LogisticRegression", "parameters": {"C": 0.5}},
        "data": {"rows": 1000, "dropped": 3, "target": "late", "features": ["a", "b"], "files": 2},
        "split": {"method": "Temporal", "testShare": 0.2, "trainRows": 800, "testRows": 200},
        "refit": {"done": True, "distance": 0.01, "message": "refitted on all rows"}, "engine": "compiled", "engineReason": "",
        "versions": {"python": "3.13", "kaizen": "0.2"}, "warnings": [], "gates": [],
        "metrics": [{"name": "log_loss", "value": 0.4, "low": 0.38, "high": 0.42, "dataset": "test"},
                    {"name": "log_loss", "value": 0.55, "dataset": "baseline"}],
        **more,
    }  # fmt: skip


def report(task: str = "Classification", name: str = "a", classes: tuple[Any, ...] = (False, True), value: str = "x") -> Report:
    """A small but whole one: fitted, judged and explained."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({name: draw.normal(size=400), "b": draw.normal(size=400)})
    slope = frame[name].to_numpy() + 0.3 * draw.normal(size=400)
    target: Any = slope
    model: Any = LinearRegression()
    if task == "Classification":
        codes = np.digitize(slope, np.quantile(slope, np.linspace(0, 1, len(classes) + 1)[1:-1]))
        target = np.array([classes[code] for code in codes], dtype=object if isinstance(classes[0], str) else None)
        model = LogisticRegression(max_iter=1000)
    made = model.fit(frame[:300], target[:300])
    test = Rows(frame[300:].reset_index(drop=True), {}, target[300:], None, frame[300:], pd.DataFrame())
    answers = made.predict_proba(test.frame) if task == "Classification" else made.predict(test.frame)
    known = list(made.classes_) if task == "Classification" else None
    metrics = as_metrics(figures(answers, test.target, known), baseline(target[:300], test.target, known))
    columns = {**{key: frame[key] for key in frame}, "text": [value, "other"] * 200, "late": [str(one) for one in target]}
    broken = Detail(value, 0.61, 0.5, 0.7, 230, False).to_json()
    return Report(
        manifest(
            task=task,
            data={"rows": 400, "dropped": 0, "target": "late", "features": [name, "b"], "files": 1},
            metrics=[metric.to_json() for metric in metrics],
            gates=[PASSED, {**FAILED, "message": value, "details": [broken]}, SKIPPED],
            anomalies=[{"code": "DOMAIN_UNEXPECTED_VALUE", "severity": "Error", "column": name, "message": value}],
            warnings=[value],
            decision={"threshold": 0.4, "message": value},
        ),
        answers, test.target, known, summarise(pa.table(columns)), trials(12, value), ("log_loss", "Minimize"),
        explain(made, test, task, "Permutation"), (Detail(f"{name}=(others)", 0.7, 0.6, 0.8, 50),), "roc_auc",
        {"Duration": value},
    )  # fmt: skip


def trials(count: int, value: str = "x") -> tuple[Trial, ...]:
    draw = np.random.default_rng(0)
    made = []
    for place in range(count):
        state: Any = ("Complete", "Complete", "Pruned", "Failed")[place % 4]
        figure = None if state == "Failed" else float(draw.uniform())
        parameters = {
            "depth": int(draw.integers(1, 9)),
            "rate": float(10 ** draw.uniform(-4, 0)),
            "kind": (value, "b")[place % 2],
        }
        made.append(Trial(place, state, figure, parameters, 1.5, (), 0))
    return tuple(made)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(report(name=HOSTILE, classes=(HOSTILE, "quiet"), value=HOSTILE))


def test_nothing_is_loaded_and_nothing_runs(hostile: str) -> None:
    page = Page(hostile)
    assert not page.open
    assert not page.all("script", "link", "iframe", "object", "embed", "img", "base", "form", "foreignobject", "audio", "video")
    for _, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), key
            if key in ("href", "xlink:href", "src", "srcset", "action", "data"):
                assert str(value).startswith(("#", "data:image/png;base64,")), (key, value)
            if key not in ("aria-label", "content"):
                assert not re.search(r"url\((?!#)", str(value)), (key, value)
    (style,) = re.findall(r"<style>(.*?)</style>", hostile, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'")


def test_text_from_data_is_shown_as_text(hostile: str) -> None:
    page = Page(hostile)
    # Where there is room it is whole, but for marks that turn the reading direction and control characters.
    whole = clean(HOSTILE, 400)
    assert whole.endswith("#0072b2 gnp")
    assert (
        page.text.count("</svg><script>alert(1)</script><img src=x onerror=alert(2)>\"' $\\frac{a}{b}$ &amp; ]]> #0072b2 gnp") > 5
    )
    # Axis labels are cut, and neither mathematics nor the theme's colours are read into them.
    assert clean(HOSTILE, 18) in page.text
    assert clean(HOSTILE, 18).endswith("…")
    for mark in ("\u202e", "\x00", "\x1b"):
        assert mark not in hostile


def test_the_page_can_be_read_without_seeing_it(hostile: str) -> None:
    page = Page(hostile)
    assert page.all("html")[0]["lang"] == "en"
    plots = [one for one in page.all("div") if one.get("class") == "plot"]
    assert len(plots) > 12
    assert all(one["role"] == "img" and len(str(one["aria-label"])) > 20 for one in plots)
    assert all(one["aria-hidden"] == "true" for one in page.all("svg"))
    assert page.all("th")
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    names = [one["id"] for _, one in page.elements if "id" in one]
    assert len(names) == len(set(names))
    links = [str(one["href"])[1:] for one in page.all("a", "use")]
    assert links
    assert set(links) <= set(names)


def test_plots_follow_the_theme(hostile: str) -> None:
    style, _ = hostile.split("</style>", 1)
    attributes = " ".join(str(value) for _, one in Page(hostile).elements for key, value in one.items() if key == "style")
    assert "var(--first)" in attributes
    assert "#0072b2" not in attributes
    used = set(re.findall(r"var\(--([a-z-]+)\)", hostile))
    light, dark = (set(re.findall(r"--([a-z-]+):", part)) for part in style.split("@media (prefers-color-scheme: dark)")[:2])
    assert used <= light
    assert light - {"scheme"} <= dark


def test_the_same_run_gives_the_same_page(tmp_path: Any) -> None:
    one = report("Regression")
    write_report(tmp_path / "report.html", one)
    assert (tmp_path / "report.html").read_text("utf-8") == render(one)
    assert "Predicted and true values" in Page(render(one)).text


@pytest.mark.parametrize("task", ["Classification", "Regression"])
def test_every_section_is_there_and_listed(task: str) -> None:
    page = Page(render(report(task)))
    titles = ("At a glance", "How good it is", "Gates", "Slices", "What it answers by", "Data", "Search", "How it was made")
    assert all(page.words.count(title) == 2 for title in titles)
    for told in (
        "May not serve",
        "DOMAIN_UNEXPECTED_VALUE",
        "a=(others)",
        "0.6000 to 0.8000",
        "all figures are of the model before it",
    ):
        assert told in page.text


def test_what_is_not_known_is_left_out() -> None:
    bare = Report(manifest(), np.zeros((0, 2)), np.zeros(0, dtype=np.bool_), (False, True))
    page = Page(render(bare))
    assert not page.open
    assert "Search" not in page.words
    assert "no gate was declared" in page.text
    assert not page.all("svg")


def test_a_large_run_stays_small() -> None:
    """A hundred classes, hundreds of columns, ten thousand rows, a thousand trials and gates with very many parts."""
    draw = np.random.default_rng(0)
    classes = tuple(f"class {place}" for place in range(100))
    answers = draw.dirichlet(np.ones(100), 10_000)
    columns = [f"a column with a rather long name {place}" for place in range(300)]
    table = pa.table({name: draw.normal(size=500) for name in columns})
    parts = Attributions(
        tuple(columns[:200]), np.zeros(100), draw.normal(size=(200, 200, 100)), draw.uniform(size=(200, 200)), True
    )
    curves = {name: tuple(draw.uniform(size=20)) for name in classes[:4]}
    dependences = tuple(Dependence(name, "Number", tuple(np.linspace(0, 1, 20)), curves) for name in columns[:6])
    found = Explanation("SHAP", "answer", 200, tuple(Importance(one, 0.1, 0.01) for one in columns[:200]), dependences, parts, "")
    gates = [{**FAILED, "name": f"gate-{place}", "details": [{"name": "part " * 20, "value": 0.5}] * 300} for place in range(16)]
    full = Report(
        manifest(gates=gates, anomalies=[{"code": "X", "severity": "Warning", "message": "m" * 1000}] * 1000),
        answers, np.array(classes, dtype=object)[draw.integers(0, 100, 10_000)], classes, summarise(table), trials(1000),
        ("log_loss", "Minimize"), found, tuple(Detail(f"p{place}", 0.5) for place in range(1000)), "accuracy",
    )  # fmt: skip
    made = render(full)
    assert len(made.encode()) < MOST_BYTES
    assert "100 more columns are not shown" in Page(made).text


def test_a_model_that_answers_alike_for_all_rows() -> None:
    constant = replace(
        report(),
        answers=np.tile([0.6, 0.4], (100, 1)),
        target=np.zeros(100, dtype=np.bool_),
        explanation=None,
        trials=(),
        goal=None,
    )
    assert not Page(render(constant)).open
    one = replace(report("Regression"), answers=np.zeros(50), target=np.zeros(50), explanation=None, trials=())
    assert not Page(render(one)).open


@pytest.mark.parametrize(
    ("gates", "tone", "word", "told"),
    [
        ([], "warn", "May serve", "no gate was declared"),
        ([PASSED], "good", "May serve", "1 of 1 gates passed"),
        ([PASSED, FAILED], "bad", "May not serve", "gate fair failed: roc_auc is 0.61 where carrier=OO."),
        ([FAILED, {**FAILED, "name": "fast"}], "bad", "May not serve", "1 more failed: fast."),
        ([PASSED, {**FAILED, "required": False}], "warn", "May serve", "Failed without being required: fair."),
        ([SKIPPED], "warn", "May serve", "none could judge either (nothing serves yet)"),
        ([PASSED, SKIPPED], "warn", "May serve", "1 could not judge: production"),
        ([{**FAILED, "outcome": "NotComparable"}], "bad", "May not serve", "gate fair failed"),
    ],
)
def test_the_verdict(gates: list[dict[str, Any]], tone: str, word: str, told: str) -> None:
    said = verdict(manifest(gates=gates))
    assert (said.tone, said.word) == (tone, word)
    assert told in said.serves


@pytest.mark.parametrize(
    ("value", "low", "high", "better", "told"),
    [
        (0.4, 0.38, 0.42, True, "0.4000 (0.3800 to 0.4200), better than the 0.5500 of always answering the classes' shares"),
        (0.5, 0.4, 0.6, None, "not clearly better than"),
        (0.7, 0.6, 0.8, False, "worse than"),
        (0.4, None, None, True, "log_loss is 0.4000, better than"),
    ],
)
def test_better_is_what_the_whole_interval_says(value: float, low: float, high: float, better: bool | None, told: str) -> None:
    metrics = [
        {"name": "log_loss", "value": value, "dataset": "test", "low": low, "high": high},
        {"name": "log_loss", "value": 0.55, "dataset": "baseline"},
    ]
    assert compared(metrics[0], metrics) == (0.55, better)
    assert told in verdict(manifest(metrics=metrics)).good
    assert verdict(manifest(metrics=metrics, gates=[PASSED])).tone == ("good" if better else "warn")


def test_more_is_better_of_some_metrics() -> None:
    metrics = [{"name": "roc_auc", "value": 0.6, "dataset": "test"}, {"name": "roc_auc", "value": 0.5, "dataset": "baseline"}]
    assert compared(metrics[0], metrics) == (0.5, True)


def test_weak_spots_are_the_worst_parts_first() -> None:
    """The model knows nothing where the carrier is OO; the few rows of XX are too few to say anything alone."""
    draw = np.random.default_rng(0)
    carrier = np.repeat(["UA", "AA", "OO", "XX"], [700, 700, 700, 20])
    target = draw.integers(0, 2, len(carrier)).astype(np.bool_)
    chance, known = draw.uniform(size=len(carrier)), 0.3 + 0.4 * target
    scores = np.where(carrier == "OO", chance, known + 0.2 * chance)
    frame = pd.DataFrame({"carrier": pd.Series(carrier.astype(object), dtype=object), "same": 1.0})
    test = Rows(frame, {}, target, None, frame, pd.DataFrame(index=frame.index))
    parts = Parts("Random", test.take(np.arange(10)), test, None)
    judged = Judged(Pipeline([("model", "passthrough")]), parts, np.column_stack([1 - scores, scores]), [False, True], None, DATA)
    assert slice_metric(judged) == "roc_auc"
    found = weak_spots(judged, ["carrier", "same", "carrier"], "roc_auc")
    assert [(one.name, one.rows) for one in found] == [("carrier=OO", 700), ("carrier=AA", 700), ("carrier=UA", 700)]
    assert found[0].high is not None
    assert found[1].low is not None
    assert found[0].high < 0.6 < 0.9 < found[1].low


def test_a_plain_run_does_not_pay_for_what_it_does_not_use() -> None:
    late = "{'matplotlib', 'shap', 'optuna', 'lightgbm', 'xgboost'}"
    code = f"import sys, kaizen.training.report.report, kaizen.training.report.card; print(sorted({late} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_a_search_in_which_nothing_was_finished_has_no_plots() -> None:
    assert trial_plots([Trial(0, "Failed", None, {}, 1.0, (), 0)], "log_loss", "Minimize") == ()
    (history,) = trial_plots([Trial(0, "Complete", 0.5, {"a": 1}, 1.0, (), 0)], "log_loss", "Minimize")
    assert "the best has 0.5." in history.alt


def test_the_best_trial_follows_the_direction() -> None:
    made = [Trial(place, "Complete", value, {"a": place}, 1.0, (), 0) for place, value in enumerate((0.2, 0.9, 0.5))]
    for direction, best in (("Minimize", "0.2"), ("Maximize", "0.9")):
        history, parallel = trial_plots(made, "f1", direction)
        assert f"the best has {best}." in history.alt
        assert parallel.wide
        assert f"has a {0 if direction == 'Minimize' else 1}." in parallel.alt


@pytest.mark.parametrize(
    ("value", "whole", "column"),
    [
        (26483, "26,483", "26,483"), (0.0, "0", "0.0000"), (0.5, "0.5", "0.5000"), (1021.14, "1,021", "1,021"),
        (61.49814, "61.5", "61.498"), (1e-7, "1e-07", "1e-07"), (-9.94, "-9.94", "-9.9400"), (float("nan"), "–", "–"),
        (None, "–", "–"), (2.5e12, "2.5e+12", "2.5e+12"),
    ],
)  # fmt: skip
def test_numbers_as_a_person_reads_them(value: float | None, whole: str, column: str) -> None:
    assert number(value) == whole
    assert figure(None if value is None else float(value)) == column


def test_a_plot_is_the_same_each_time_and_leaves_no_settings_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], marker="o", label="$x_1$ 漢字")
        axes.legend()

    one, other = (draw("line", "t", "a", (3.0, 2.0), paint) for _ in range(2))
    assert one == other
    assert "$x_1$ 漢字" in one.svg
    assert one.svg.startswith("<svg viewBox=")
    assert dict(matplotlib.rcParams) == before
