"""Which column of the data goes where in an ONNX graph, and which output is what: by names, types and shapes, then tried.

Nothing is guessed that could be wrong in silence: what names and shapes leave open is refused with what to write into the
file's metadata, two JSON texts: `features`, the columns of a tensor in their order (or an object of these by input), and
`classes`, in the order of the probabilities.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kaizen.serving.engine.base import Column, Input
from kaizen.serving.engine.onnx import NUMBERS, Graph, Unmappable

__all__ = ["features_of", "map_inputs", "map_outputs"]

TEXTS = "tensor(string)"
MAPS = "seq(map("
LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")
SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")
NEAR = 1e-3
"""How far probabilities of a row may be from one in sum, and two of them from each other without telling which is larger."""


def features_of(loaded: Any, features: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of each input of a graph.  `features` are the data's columns with their datatypes.  Raises Unmappable."""
    declared = _metadata(loaded, "features")
    graph_inputs = loaded.get_inputs()
    if isinstance(declared, list) and len(graph_inputs) == 1:
        declared = {graph_inputs[0].name: declared}
    if declared is not None and not (
        isinstance(declared, dict)
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in declared.values())
    ):
        raise Unmappable("its metadata property features must be a JSON list of columns, or an object of such lists by input")
    return {one.name: _columns(one, declared, features, len(graph_inputs) == 1) for one in graph_inputs}


def map_inputs(loaded: Any, named: Mapping[str, Sequence[str]], inputs: Sequence[Input]) -> list[dict[str, Any]]:
    """The part `inputs` of the mapping.  Raises Unmappable."""
    places = {one.name: place for place, one in enumerate(inputs)}
    made = []
    for one in loaded.get_inputs():
        columns = [places[name] for name in named[one.name]]
        for place in columns:
            _fit(one, inputs[place])
        made.append({"name": one.name, "type": one.type, "columns": columns, "flat": len(one.shape) == 1})
    return made


def map_outputs(
    loaded: Any,
    mapped: list[dict[str, Any]],
    inputs: Sequence[Input],
    columns: Sequence[Column],
    rows: int,
    known: Sequence[Any] | None,
) -> tuple[dict[str, Any], list[Any] | None]:
    """The whole mapping and the classes in the order of the probabilities; `columns` are rows to try it on.

    `known` are the target's classes, None for a regression.  Raises Unmappable, Refused.
    """
    outputs = loaded.get_outputs()
    if known is None:
        scores = _only([one for one in outputs if one.type in (*SCORES, *LABELS[:2])], outputs, "number")
        mapping = {"inputs": mapped, "label": None, "scores": scores, "form": "number"}
        found = _tried(loaded, mapping, inputs, columns, rows)
        if np.size(found) != rows:
            raise Unmappable(f"its output {scores} has the shape {np.shape(found)} for {rows} rows; a regression has one a row")
        return mapping, None
    candidates = [one for one in outputs if one.type.startswith(MAPS) or one.type in SCORES]
    scores = _only(candidates, outputs, "prob")
    labels = [one for one in outputs if one.type in LABELS]
    label = labels[0].name if len(labels) == 1 else next((one.name for one in labels if "label" in one.name.lower()), None)
    mapping = {"inputs": mapped, "label": label, "scores": scores, "form": "columns"}
    found = _tried(loaded, mapping, inputs, columns, rows)
    mapping["form"], classes = _form(found, rows, _declared_classes(loaded, known), scores)
    table = _probabilities(mapping, classes, inputs, loaded, columns, rows)
    mapping["label"] = _checked_label(loaded, mapping, classes, inputs, columns, rows, table)
    return mapping, classes


def _columns(one: Any, declared: Mapping[str, list[str]] | None, features: Mapping[str, str], alone: bool) -> list[str]:
    """The columns that one input is made of."""
    if one.type not in NUMBERS and one.type != TEXTS:
        known = ", ".join((*NUMBERS, TEXTS))
        raise Unmappable(f"its input {one.name} is {one.type}; inputs can be {known}")
    if not 1 <= len(one.shape) <= 2:
        raise Unmappable(f"its input {one.name} has the shape {one.shape}; inputs have the shape [rows, columns] or [rows]")
    if isinstance(one.shape[0], int) and one.shape[0] > 0:
        raise Unmappable(
            f"its input {one.name} takes exactly {one.shape[0]} rows; export it with a dynamic first axis, named batch or None"
        )
    width = one.shape[1] if len(one.shape) == 2 and isinstance(one.shape[1], int) else None if len(one.shape) == 2 else 1
    if declared is not None:
        if one.name not in declared:
            raise Unmappable(f"its metadata property features does not say which columns its input {one.name} takes")
        chosen = declared[one.name]
    elif one.name in features and width in (1, None):
        chosen = [one.name]
    elif alone:
        chosen = list(features)
    else:
        raise Unmappable(
            f"its input {one.name} is no feature; name each input as its column, or add the metadata property features: "
            'a JSON object of the columns by input, as {"numbers": ["distance", "hour"]}'
        )
    if strange := [name for name in chosen if name not in features]:
        raise Unmappable(f"its metadata property features has {strange[0]!r}, which is no feature; there are {_listed(features)}")
    if width is not None and len(chosen) != width:
        raise Unmappable(
            f"its input {one.name} has {width} columns, and there are {len(chosen)} features: {_listed(chosen)}; "
            "add the metadata property features: a JSON list of the columns in their order"
        )
    return chosen


def _fit(one: Any, column: Input) -> None:
    """Raises Unmappable when a column cannot go into a tensor."""
    if (one.type == TEXTS) != (column.datatype == "BYTES"):
        what = "texts" if column.datatype == "BYTES" else "numbers"
        raise Unmappable(
            f"its input {one.name} is {one.type}, and the feature {column.name} has {what}; give texts an input of their own of "
            "the type tensor(string), or name the columns of this one in the metadata property features"
        )


def _only(candidates: Sequence[Any], outputs: Sequence[Any], named: str) -> str:
    """The one that is meant: the only one, or the only one with such a name."""
    if len(candidates) > 1:
        candidates = [one for one in candidates if named in one.name.lower()]
    if len(candidates) == 1:
        return str(candidates[0].name)
    listed = ", ".join(f"{one.name} ({one.type})" for one in outputs)
    if named == "prob":
        raise Unmappable(
            f"its outputs are {listed}, of which none alone can be the probabilities; leave one output of the shape "
            "[rows, classes] whose name has prob in it, beside the label"
        )
    raise Unmappable(f"its outputs are {listed}; leave the predicted number, of the shape [rows] or [rows, 1], as the only one")


def _tried(loaded: Any, mapping: Mapping[str, Any], inputs: Sequence[Input], columns: Sequence[Column], rows: int) -> Any:
    """What the scores' output holds for some rows."""
    found: list[Any] = []

    class Kept:
        """Keeps what the graph answers."""

        def run(self, wanted: Any, feed: Any) -> Any:
            found.extend(loaded.run(wanted, feed))
            return [np.zeros(rows)]

    Graph(Kept(), inputs, {**mapping, "label": None, "form": "number"}, None).answer(columns, rows)
    return found[0]


def _form(found: Any, rows: int, classes: list[Any], name: str) -> tuple[str, list[Any]]:
    """How probabilities are laid out, and the classes in their order."""
    if isinstance(found, list):
        keys = list(found[0])
        named = [one for one in classes if one in keys]
        return "maps", named if len(named) == len(keys) else keys
    shape = np.shape(found)
    if shape in ((rows,), (rows, 1)) and len(classes) == 2:
        return "second", classes
    if shape == (rows, len(classes)):
        return "columns", classes
    raise Unmappable(
        f"its output {name} has the shape {list(shape)} for {rows} rows, and the target has {len(classes)} classes: "
        f"{_listed(map(repr, classes))}; give a probability for each, or add the metadata property classes"
    )


def _probabilities(
    mapping: Mapping[str, Any], classes: list[Any], inputs: Sequence[Input], loaded: Any, columns: Sequence[Column], rows: int
) -> Any:
    _, table = Graph(loaded, inputs, {**mapping, "label": None}, classes).answer(columns, rows)
    assert table is not None
    if table.min() < -NEAR or table.max() > 1 + NEAR or not np.allclose(table.sum(axis=1), 1.0, rtol=0, atol=NEAR):
        raise Unmappable(
            f"its output {mapping['scores']} has no probabilities: a row of it is {table[0].round(4).tolist()[:8]}; end the "
            "graph in a Softmax over the classes, or for two classes in a Sigmoid"
        )
    return table


def _checked_label(
    loaded: Any,
    mapping: Mapping[str, Any],
    classes: list[Any],
    inputs: Sequence[Input],
    columns: Sequence[Column],
    rows: int,
    table: Any,
) -> str | None:
    """The output that holds the label, when it holds classes; a mere number of the likeliest one tells nothing more."""
    if (name := mapping["label"]) is None:
        return None
    labels = np.ravel(_tried(loaded, {**mapping, "scores": name}, inputs, columns, rows)).tolist()
    likeliest = table.argmax(axis=1)
    two = np.sort(table, axis=1)[:, -2:]
    clear = np.flatnonzero(two[:, -1] - two[:, 0] > NEAR) if table.shape[1] > 1 else np.arange(0)
    if all(label in classes for label in labels) and all(classes[likeliest[i]] == labels[i] for i in clear):
        return str(name)
    if all(label == likeliest[i] for i, label in enumerate(labels) if i in set(clear.tolist())):
        return None
    i = next((i for i in clear.tolist() if labels[i] not in classes or classes[likeliest[i]] != labels[i]), 0)
    raise Unmappable(
        f"its output {name} says {labels[i]!r} where the probability of {classes[likeliest[i]]!r} is the largest; add the "
        "metadata property classes: a JSON list of the target's classes in the order of the probabilities"
    )


def _declared_classes(loaded: Any, known: Sequence[Any]) -> list[Any]:
    """The classes in the order of the probabilities: as declared, else as sorted; each as the target has it."""
    declared = _metadata(loaded, "classes")
    if declared is None:
        return list(known)
    if not isinstance(declared, list) or not declared or len(set(map(repr, declared))) != len(declared):
        raise Unmappable("its metadata property classes must be a JSON list of the target's classes, each once")
    by_value = {one: one for one in known}
    try:
        return [by_value.get(one, one) for one in declared]
    except TypeError:
        raise Unmappable("its metadata property classes must be a JSON list of texts, numbers, or true and false") from None


def _metadata(loaded: Any, name: str) -> Any:
    text = loaded.get_modelmeta().custom_metadata_map.get(name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unmappable(f"its metadata property {name} is no JSON: {text[:80]!r}") from None


def _listed(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")
