"""Recipes that break a rule, each with its sentence, and recipes that break none.

The API server and `kaizen train` say the same of each (tests/e2e/test_bad_input.py, tests/unit/test_training_spec.py).
"""

from typing import Any

from tests.support.objects import edited, training_job

SOURCE = {"name": "flights", "uri": "s3://lake/flights/"}
OTHER_SOURCE = {"name": "weather", "uri": "s3://lake/weather/"}
CODE = {"uri": "s3://lake/model.py"}
REPOSITORY = "https://git.example.com/team/models.git"
CONTAINER = {"image": "registry.example.com/train:1"}
GATE = {"name": "no-worse", "metric": "log_loss", "againstProduction": {"worseByAtMost": 0.01}}
RATE = {"parameter": "learning_rate", "type": "Float", "low": 0.01, "high": 0.3}
LEAVES = {"parameter": "max_leaf_nodes", "type": "Integer", "low": 15, "high": 127}
LOSS = {"parameter": "loss", "type": "Categorical", "values": ["log_loss"]}

ONE_OF_THREE = "exactly one of estimator, code, container must be given"
CLASSIFICATION = (
    "log_loss, brier, calibration_gap, roc_auc, average_precision, accuracy, balanced_accuracy, f1, precision, recall, matthews"
)
REGRESSION = "rmse, mae, median_error, r2"
FAIRNESS = (
    "demographic_parity_difference, demographic_parity_ratio, equal_opportunity_difference, equal_opportunity_ratio, "
    "equalized_odds_difference, equalized_odds_ratio"
)
LATENCY = "latency_p50_seconds, latency_p99_seconds"
ONE_LIMIT = "gates[] needs exactly one kind of limit: atLeast and atMost, or againstProduction, or dropAtMost"
FAIR = "gates[].sensitiveFeature belongs to a fairness metric, and a fairness metric needs it: name the column"
LIMITED = "gates[] with a fairness or latency metric takes atMost or atLeast, and no slices"
DISTURBED = "gates[].perturbation and gates[].dropAtMost belong together: what is disturbed, and how far the metric may fall"
BOUNDS = "search.space[] needs low and high with type Float or Integer, and values instead of them with type Categorical"
STEP = "search.space[].step must be above 0, and goes not with log"
GRID = "search.sampler Grid needs a step with type Float, and goes not with log: give step, or values with type Categorical"
AUTO = "search with estimator Auto takes no space, for Auto brings its own, and sampler TPE or Random"
OWN_SPACE = "search.space must name at least one parameter; only estimator Auto brings its own"
GIT = "code.revision and code.path belong to a git repository, which needs both: a commit, tag or branch, and a file in it"
GROUPS = "data.split.groups, the columns whose equal values stay together, goes with split.method Grouped and only there"
INCLUDED = "data.features.include names only data.timestamp and columns of data.sensitive: all others are features anyway"
EXPECTED = "data.expectations[] needs at least one of minimum, maximum, missingShareAtMost, allowed"
ONE_DECISION = "decision needs exactly one of maximise, threshold, cost"
ONE_VALUE = "pod.env[] needs exactly one of value, valueFrom"
SHARE = "data.split.testShare must be from 0.01 to 0.5"
ONE_SOURCE = "data.sources[] needs exactly one of uri and captures"
SEEN = {"name": "seen", "captures": {"inferenceServiceName": "delays"}}


def _gate(**fields: Any) -> dict[str, Any]:
    """A change of the gates to one."""
    return {"spec.gates": [{"name": "gate", "metric": "roc_auc", **fields}]}


def _space(*parameters: dict[str, Any], **search: Any) -> dict[str, Any]:
    return {"spec.search": {"space": list(parameters), **search}}


def _code(**fields: Any) -> dict[str, Any]:
    return {"spec.estimator": None, "spec.code": {**CODE, **fields}}


def _env(**fields: Any) -> dict[str, Any]:
    return {"spec.pod.env": [{"name": "TOKEN", **fields}]}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to train": ({"spec.estimator": None}, ONE_OF_THREE),
    "estimator and code": ({"spec.code": CODE}, ONE_OF_THREE),
    "estimator and container": ({"spec.container": CONTAINER}, ONE_OF_THREE),
    "code and container": ({"spec.estimator": None, "spec.code": CODE, "spec.container": CONTAINER}, ONE_OF_THREE),
    "all three": ({"spec.code": CODE, "spec.container": CONTAINER}, ONE_OF_THREE),
    "repository without a revision": (_code(uri=REPOSITORY, path="model.py"), GIT),
    "repository without a path": (_code(uri=REPOSITORY, revision="main"), GIT),
    "repository alone": (_code(uri=REPOSITORY), GIT),
    "two sources without a query": (
        {"spec.data.sources": [SOURCE, OTHER_SOURCE]},
        "several sources need a query that joins them: write data.query",
    ),
    "a source of nothing": ({"spec.data.sources": [{"name": "seen"}]}, ONE_SOURCE),
    "a source of both": ({"spec.data.sources": [{**SOURCE, **SEEN}]}, ONE_SOURCE),
    "captures with a Secret": (
        {"spec.data.sources": [{**SEEN, "secretName": "lake"}]},
        "data.sources[].format and secretName go with uri: captures need neither",
    ),
    "two sources of one name": (
        {"spec.data.query": "SELECT 1", "spec.data.sources": [SOURCE, {**OTHER_SOURCE, "name": "flights"}]},
        'spec.data.sources[1]: Duplicate value: {"name":"flights"}',
    ),
    "a key twice": ({"spec.data.keys": ["flight", "flight"]}, 'spec.data.keys[1]: Duplicate value: "flight"'),
    "temporal split without a timestamp": (
        {"spec.data.split.method": "Temporal"},
        "split.method Temporal needs data.timestamp: name the column that orders the rows",
    ),
    "window without a timestamp": (
        {"spec.data.windowSeconds": 60},
        "data.windowSeconds needs data.timestamp: name the column that orders the rows",
    ),
    "timestamp is the target": (
        {"spec.data.timestamp": "delayed"},
        "data.timestamp and data.target must be different columns",
    ),
    "target among the excluded": (
        {"spec.data.features.exclude": ["delayed"]},
        "data.target is never a feature: remove it from features.exclude",
    ),
    "an ordinary column included": ({"spec.data.features.include": ["carrier"]}, INCLUDED),
    "test share too large": ({"spec.data.split.testShare": 0.9}, SHARE),
    "test share of nothing": ({"spec.data.split.testShare": 0}, SHARE),
    "grouped by nothing": ({"spec.data.split.method": "Grouped"}, GROUPS),
    "groups of another split": ({"spec.data.split": {"method": "Random", "groups": ["tail"]}}, GROUPS),
    "groups without a method": ({"spec.data.split.groups": ["tail"]}, GROUPS),
    "classes of numbers": (
        {"spec.task": "Regression", "spec.data.split.method": "Stratified"},
        "split.method Stratified is for task Classification",
    ),
    "nothing expected": ({"spec.data.expectations": [{"column": "distance"}]}, EXPECTED),
    "least above most": (
        {"spec.data.expectations": [{"column": "distance", "minimum": 2, "maximum": 1}]},
        "data.expectations[].minimum must not be above maximum",
    ),
    "search of a container": (
        {"spec.estimator": None, "spec.container": CONTAINER, **_space(RATE)},
        "search tunes an estimator or code; a container tunes itself",
    ),
    "search of nothing": ({"spec.search": {}}, OWN_SPACE),
    "search of nothing in code": ({**_code(), "spec.search": {"trials": 5}}, OWN_SPACE),
    "space beside Auto's": ({"spec.estimator": {"name": "Auto"}, **_space(RATE)}, AUTO),
    "sampler that Auto does not take": ({"spec.estimator": {"name": "Auto"}, "spec.search": {"sampler": "QMC"}}, AUTO),
    "range without an end": (_space({"parameter": "learning_rate", "type": "Float", "low": 0.1}), BOUNDS),
    "list with a range": (_space({**LOSS, "low": 1, "high": 2}), BOUNDS),
    "list with a step": (_space({**LOSS, "step": 1}), BOUNDS),
    "low above high": (_space({**RATE, "low": 0.5}), "search.space[].low must not be above high"),
    "logarithm of nothing": (_space({**RATE, "low": 0, "log": True}), "search.space[].low must be above 0 with log"),
    "step backwards": (_space({**RATE, "step": -0.1}), STEP),
    "step on a logarithmic scale": (_space({**RATE, "step": 0.1, "log": True}), STEP),
    "half a leaf at least": (
        _space({**LEAVES, "low": 1.5}),
        "search.space[].low must be a whole number with type Integer",
    ),
    "half a leaf at most": (
        _space({**LEAVES, "high": 16.5}),
        "search.space[].high must be a whole number with type Integer",
    ),
    "leaves that nobody can count": (
        _space({**LEAVES, "high": 1e300}),
        "search.space[].high must be a whole number with type Integer",
    ),
    "half a step": (
        _space({**LEAVES, "step": 0.5}),
        "search.space[].step must be a whole number with type Integer",
    ),
    "grid of a range": (_space(RATE, sampler="Grid"), GRID),
    "grid on a logarithmic scale": (_space({**LEAVES, "log": True}, sampler="Grid"), GRID),
    "CMAES of one number": (
        _space(RATE, LOSS, sampler="CMAES"),
        "search.sampler CMAES needs at least two parameters of type Float or Integer: use TPE",
    ),
    "objective of another task": (
        _space(RATE, objective={"metric": "rmse"}),
        f"search.objective.metric must be one of {CLASSIFICATION} for task Classification",
    ),
    "objective of another task, regression": (
        {"spec.task": "Regression", **_space(RATE, objective={"metric": "log_loss"})},
        f"search.objective.metric must be one of {REGRESSION} for task Regression",
    ),
    "objective that is no model's": (
        _space(RATE, objective={"metric": "latency_p99_seconds"}),
        f"search.objective.metric must be one of {CLASSIFICATION} for task Classification",
    ),
    "objective in the wrong direction": (
        _space(RATE, objective={"metric": "log_loss", "direction": "Maximize"}),
        "search.objective.direction is Maximize for accuracy, average_precision, balanced_accuracy, f1, matthews, precision, r2,"
        " recall, roc_auc, and Minimize for all others: leave it out",
    ),
    "decision about numbers": (
        {"spec.task": "Regression", "spec.decision": {"threshold": 0.5}},
        "decision is for task Classification",
    ),
    "no decision": ({"spec.decision": {}}, ONE_DECISION),
    "two decisions": ({"spec.decision": {"maximise": "f1", "threshold": 0.5}}, ONE_DECISION),
    "metric of another task": (
        _gate(metric="rmse", atMost=1),
        f"gates[].metric must be one of {CLASSIFICATION}, {FAIRNESS}, {LATENCY} for task Classification",
    ),
    "metric of another task, regression": (
        {"spec.task": "Regression", "spec.gates": [GATE]},
        f"gates[].metric must be one of {REGRESSION}, {LATENCY} for task Regression",
    ),
    "fairness of numbers": (
        {"spec.task": "Regression", **_gate(metric="equalized_odds_ratio", atLeast=0.8, sensitiveFeature="carrier")},
        f"gates[].metric must be one of {REGRESSION}, {LATENCY} for task Regression",
    ),
    "gate without a limit": (_gate(), ONE_LIMIT),
    "gate with two kinds of limit": (_gate(atLeast=0.6, againstProduction={}), ONE_LIMIT),
    "gate that only falls": (_gate(dropAtMost=0.1), DISTURBED),
    "gate that is only disturbed": (_gate(atLeast=0.6, perturbation="Noise"), DISTURBED),
    "gate that nothing can pass": (_gate(atLeast=0.8, atMost=0.6), "gates[].atLeast must not be above atMost"),
    "fairness between nobody": (_gate(metric="equalized_odds_ratio", atLeast=0.8), FAIR),
    "groups of an ordinary metric": (_gate(atLeast=0.6, sensitiveFeature="carrier"), FAIR),
    "fairness against production": (
        _gate(metric="equalized_odds_ratio", sensitiveFeature="carrier", againstProduction={}),
        LIMITED,
    ),
    "latency of a slice": (_gate(metric="latency_p99_seconds", atMost=0.1, slices=["carrier"]), LIMITED),
    "slices against production": (
        _gate(slices=["carrier"], againstProduction={}),
        "gates[].slices goes with atLeast or atMost, which must hold in every slice",
    ),
    "group rows without groups": (
        _gate(atLeast=0.6, minimumGroupRows=50),
        "gates[].minimumGroupRows goes with slices or sensitiveFeature",
    ),
    "variable without a value": (_env(), ONE_VALUE),
    "variable with two values": (
        _env(value="a", valueFrom={"secretKeyRef": {"name": "a", "key": "b"}}),
        ONE_VALUE,
    ),
    "variable of Kaizen's": (
        {"spec.pod.env": [{"name": "KAIZEN_BUCKET", "value": "a"}]},
        "pod.env[].name must not start with KAIZEN_: those are Kaizen's own",
    ),
}  # fmt: skip


GOOD: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "code": {"spec.estimator": None, "spec.code": {"uri": "pvc://home/model.py"}, "spec.search": {"space": [RATE]}},
    "a repository": {
        "spec.estimator": None,
        "spec.code": {"uri": "https://h/r", "revision": "v1", "path": "a/model.py"},
    },
    "a container": {"spec.estimator": None, "spec.container": CONTAINER},
    "Auto": {"spec.estimator": {"name": "Auto"}, "spec.search": {"sampler": "Random"}},
    "a grid": {"spec.search": {"sampler": "Grid", "space": [{**RATE, "step": 0.1}, LEAVES, LOSS]}},
    "a grid of one point": {"spec.search": {"sampler": "Grid", "space": [{**LEAVES, "low": 15, "high": 15}]}},
    "all kinds of values": {"spec.search": {"space": [{**LOSS, "values": ["a", 1, 1.5, True]}]}},
    "CMAES": {
        "spec.search": {"sampler": "CMAES", "space": [RATE, LEAVES], "objective": {"metric": "f1", "direction": "Maximize"}}
    },
    "groups": {"spec.data.split": {"method": "Grouped", "groups": ["tail"]}},
    "time and sensitive columns as features": {
        "spec.data.timestamp": "time",
        "spec.data.windowSeconds": 60,
        "spec.data.sensitive": ["carrier"],
        "spec.data.features.include": ["time", "carrier"],
    },
    "gates of all kinds": {
        "spec.gates": [
            {"name": "a", "metric": "roc_auc", "atLeast": 0.6, "atMost": 1, "slices": ["carrier"], "minimumGroupRows": 50},
            {"name": "b", "metric": "log_loss", "againstProduction": {}},
            {
                "name": "c",
                "metric": "equalized_odds_ratio",
                "atLeast": 0.8,
                "sensitiveFeature": "carrier",
                "minimumGroupRows": 50,
            },
            {"name": "d", "metric": "latency_p99_seconds", "atMost": 0.1},
            {"name": "e", "metric": "f1", "perturbation": "Noise", "dropAtMost": 0.1},
        ]
    },
}


def broken_jobs() -> dict[str, tuple[dict[str, Any], str]]:
    """Case → the TrainingJob and a part of what is said of it."""
    return {name: (edited(training_job(), changes), sentence) for name, (changes, sentence) in BROKEN.items()}


def good_jobs() -> list[dict[str, Any]]:
    """In the order of GOOD."""
    return [edited(training_job(f"good-{number}"), changes) for number, changes in enumerate(GOOD.values())]
