"""A spec that is wrong, in a terminal: the sentences of the API server, from the same rules."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kaizen.api.crd import crd
from kaizen.api.kinds import KINDS, TRAINING_JOB
from kaizen.training import documents
from kaizen.training.cel import NotCel, compiled
from kaizen.training.errors import DO_NOT_RETRY, Failure
from kaizen.training.spec import read_job, read_spec
from tests.support.objects import edited, training_job
from tests.support.recipes import BROKEN, CONTAINER, GOOD, LOSS, RATE, broken_jobs, good_jobs

RULES = "x-kubernetes-validations"
JOB = training_job()


def rules_of(node: Any) -> list[dict[str, str]]:
    """All rules of a schema."""
    if isinstance(node, list):
        return [rule for child in node for rule in rules_of(child)]
    if not isinstance(node, dict):
        return []
    return [*node.get(RULES, ()), *(rule for name, child in node.items() if name != RULES for rule in rules_of(child))]


SPEC = crd(TRAINING_JOB)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SENTENCES = sorted({rule["message"] for rule in rules_of(SPEC) if "oldSelf" not in rule["rule"]})


@pytest.mark.parametrize(("job", "sentence"), broken_jobs().values(), ids=BROKEN)
def test_each_broken_rule_has_its_sentence(job: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failure) as failed:
        read_spec(job["spec"])
    assert sentence in failed.value.message
    assert failed.value.message.startswith("spec")
    assert (failed.value.step, failed.value.code, failed.value.exit_code) == ("Ingest", "InvalidSpec", DO_NOT_RETRY)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_each_rule_is_broken_by_a_case(sentence: str) -> None:
    assert sentence in {said for _, said in BROKEN.values()}


@pytest.mark.parametrize("job", good_jobs(), ids=GOOD)
def test_what_is_right_is_accepted(job: dict[str, Any]) -> None:
    spec = read_spec(job["spec"])
    again = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert read_spec(again) == spec


SINGLE: dict[str, tuple[str, Any, str]] = {
    "unknown field": ("spec.colour", "red", "spec.colour: extra inputs are not permitted"),
    "unknown task": ("spec.task", "Clustering", "spec.task: input should be 'Classification' or 'Regression'"),
    "number as text": ("spec.data.minimumRows", "50", "spec.data.minimumRows: input should be a valid integer"),
    "fraction as whole number": ("spec.backoffLimit", 1.5, "spec.backoffLimit: input should be a valid integer"),
    "truth as number": ("spec.backoffLimit", True, "spec.backoffLimit: input should be a valid integer"),
    "truth as text": ("spec.suspend", "false", "spec.suspend: input should be a valid boolean"),
    "text as number": ("spec.model", 7, "spec.model: input should be a valid string"),
    "share as text": ("spec.data.split.testShare", "0.2", "spec.data.split.testShare: input should be a valid number"),
    "list as text": ("spec.data.keys", "flight", "spec.data.keys: input should be a valid array"),
    "object as text": ("spec.data", "s3://lake", "spec.data: input should be an object"),
    "no object": ("spec.data.sources", ["s3://lake/x/"], "spec.data.sources[0]: input should be an object"),
    "null": ("spec.data.target", ..., "spec.data.target: input should be a valid string"),
    "local path": ("spec.data.sources.0.uri", "/lake/", "spec.data.sources[0].uri: string should match pattern"),
    "local code": ("spec.code", {"uri": "model.py"}, "spec.code.uri: string should match pattern"),
    "name too long": ("spec.model", "m" * 41, "spec.model: string should have at most 40 characters"),
    "value of no kind": (
        "spec.search",
        {"space": [{**LOSS, "values": [[1]]}]},
        "spec.search.space[0].values[0]: input should be a text or a whole number or a number or true or false",
    ),
    "several": ("spec", {"model": "m"}, "spec.task: field required (and 1 more)"),
    "not a number": ("spec.estimator.parameters", {"C": float("nan")}, "spec holds what JSON cannot: Out of range float"),
    "infinite": ("spec.search", {"space": [{**RATE, "high": float("inf")}]}, "spec holds what JSON cannot: Out of range float"),
    "categories without values": (
        "spec.search",
        {"space": [RATE, {"parameter": "loss", "type": "Categorical"}]},
        "spec.search.space[1] (loss): search.space[].values goes with type Categorical, which needs it, and with no other type",
    ),
    "range with values": (
        "spec.search",
        {"space": [{**RATE, "values": [0.1]}]},
        "spec.search.space[0] (learning_rate): search.space[].values goes with type Categorical",
    ),
}


@pytest.mark.parametrize(("path", "value", "sentence"), SINGLE.values(), ids=SINGLE)
def test_single_fields(path: str, value: Any, sentence: str) -> None:
    job = edited(JOB, {path: value}) if value is not ... else edited(JOB, {path: {}})
    if value is ...:
        job["spec"]["data"]["target"] = None
    with pytest.raises(Failure) as failed:
        read_spec(job["spec"])
    assert failed.value.code == "InvalidSpec"
    assert failed.value.message.startswith(sentence)
    assert "\n" not in failed.value.message


def job_file(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(edited(JOB, {f"spec.{name}": value for name, value in changes.items()})))
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    sources = [{"name": name, "uri": uri} for name, uri in (("a", "lake/*.csv"), ("b", "/lake/b.csv"), ("c", "s3://lake/c/"))]
    data = {"sources": sources, "query": "SELECT 1", "target": "late"}
    spec = read_job(job_file(tmp_path / "job.yaml", data=data, estimator=None, code={"uri": "model.py"}))
    assert [source.uri for source in spec.data.sources] == [f"{tmp_path}/lake/*.csv", "/lake/b.csv", "s3://lake/c/"]
    assert spec.code is not None
    assert spec.code.uri == f"{tmp_path}/model.py"
    again = read_job(job_file(tmp_path / "job.yaml", estimator=None, code={"uri": "https://h/model.py"}))
    assert again.code is not None
    assert again.code.uri == "https://h/model.py"


def test_a_container_needs_a_cluster(tmp_path: Path) -> None:
    path = job_file(tmp_path / "job.yaml", estimator=None, container=CONTAINER)
    with pytest.raises(Failure) as failed:
        read_job(path)
    assert failed.value.code == "ContainerNeedsCluster"
    assert failed.value.message == f"spec.container needs a cluster, which runs {CONTAINER['image']}: apply {path} with kubectl"


HEAD = "kind: TrainingJob\napiVersion: mlops.kaizen.dev/v1alpha1\n"
FILES = {
    "not YAML": ("a: [", "is not YAML: "),
    "not UTF-8": (b"a: \xff\xfe", "is not YAML: "),
    "a key twice": (HEAD + "spec: {task: Classification, task: Regression}", "is not YAML: task is given twice"),
    "a key that is a list": (HEAD + "spec: {? [task] : Classification}", "is not YAML: "),
    "itself": (HEAD + "spec: &spec {pod: *spec}", "spec holds what JSON cannot: Circular reference"),
    "no TrainingJob": ("kind: Pod\n", "must hold exactly one object of kind TrainingJob, and holds 0"),
    "two TrainingJobs": (f"{HEAD}---\n{HEAD}", "must hold exactly one object of kind TrainingJob, and holds 2"),
    "another version": ("kind: TrainingJob\napiVersion: v1\n", "apiVersion must be mlops.kaizen.dev/v1alpha1, not v1"),
    "no spec": (HEAD, "spec must be a mapping"),
    "bytes": (HEAD + "spec: {model: !!binary aGVsbG8=}", "spec holds what JSON cannot: Object of type bytes"),
}


@pytest.mark.parametrize(("text", "sentence"), FILES.values(), ids=FILES)
def test_files(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    (tmp_path / "job.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(Failure) as failed:
        read_job(tmp_path / "job.yaml")
    assert failed.value.code == "InvalidSpec"
    assert sentence in failed.value.message
    assert "\n" not in failed.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.yaml cannot be read: No such file or directory"):
        read_job(tmp_path / "none.yaml")


def test_yaml_is_read_as_kubectl_reads_it() -> None:
    text = """\
        numbers: [1e-3, 1E5, 1.5e+3, .5e1, -2.e2, 0.1, 7]
        texts: [2013-01-01, 2013-01-01T00:00:00Z, 1e, e5, "1e5"]
        truth: [yes, off, true]
        ---
        ---
        base: &base {a: 1}
        more: {<<: *base, b: 2}
    """
    assert documents.read(textwrap.dedent(text)) == [
        {
            "numbers": [0.001, 1e5, 1500.0, 5.0, -200.0, 0.1, 7],
            "texts": ["2013-01-01", "2013-01-01T00:00:00Z", "1e", "e5", "1e5"],
            "truth": [True, False, True],
        },
        {"base": {"a": 1}, "more": {"a": 1, "b": 2}},
    ]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_every_rule_is_understood(kind: Any) -> None:
    found = rules_of(crd(kind))
    assert found
    for rule in found:
        compiled(rule["rule"])


EXPRESSIONS: dict[str, bool] = {
    "true || false && false": True,
    "(true || false) && false": False,
    "!true == false": True,
    "!(true == false)": True,
    "1 + 2 - 4 < 0": True,
    "1 - 1 - 1 < 0": True,
    "2 < 10 && 2.5 >= 2.5 && 3 != 4 && 4 > 3 && 3 <= 3": True,
    "'a' in ['a', 'b'] && !('c' in ['a', 'b',]) && !('a' in [])": True,
    "has(self.a.b) && !has(self.a.c) && !has(self.list)": True,
    "has(self.x) ? self.x.y == 1 : self.a.b == 2": True,
    "has(self.x) ? false : has(self.a.b) ? true : false": True,
    "size(self.items) == 3 && size('abc') == 3 && size([]) == 0": True,
    "self.items.all(one, one > 0) && !self.items.all(one, one > 1)": True,
    "size(self.items.filter(one, one != 2)) == 2": True,
    "self.items.all(one, self.items.all(other, one + other <= 6))": True,
    "self.name.matches('^a.c$') && self.name.matches('b') && !self.name.matches('^b')": True,
    r"'it\'s'.matches('\\.') || self.name.startsWith('ab') && self.name.endsWith('bc')": True,
    "double(int(self.half)) == self.half": False,
    "double(int(self.huge)) == self.huge": False,
}


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS.items())
def test_expressions(expression: str, expected: bool) -> None:
    value = {"a": {"b": 2}, "items": [1, 2, 3], "name": "abc", "half": 1.5, "huge": 1e300}
    assert compiled(expression)(value) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "self.",
        "self.a ==",
        "(true",
        "true)",
        "[1, 2",
        "a b",
        "self.items.map(one, one)",
        "type(self)",
        "has(self)",
        "1 ? 2",
        "#",
    ],
)
def test_what_is_no_expression(expression: str) -> None:
    with pytest.raises(NotCel):
        compiled(expression)
