"""The model as a short Python file that trains it again without Kaizen, in the words of the libraries it is made of.

Every estimator is written with the parameters that differ from its defaults: what the file says is what was decided.
"""

import importlib.metadata
import platform
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
import pandas as pd

from kaizen.api.training_data import Data
from kaizen.training.models.source_expressions import Expressions
from kaizen.training.models.source_printer import WIDTH, Call, Word, printed, text

__all__ = ["source"]

DISTRIBUTIONS = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}
"""Packages that are called otherwise than their module."""


def source(model: Any, frame: pd.DataFrame, target: npt.NDArray[Any], data: Data, title: str, note: str = "") -> str:
    """The text of pipeline.py.

    Args:
        model: a scikit-learn Pipeline or what wraps one, fitted or not; what is fixed before the last fit (calibration curves,
            a threshold) is written down as it is.
        frame: the features that it was fitted to; only the columns' names and types count.
        target: what it was fitted to; only the type counts.
        data: where the rows come from.
        title: what is made of what, without a full stop.
        note: a sentence on which rows the packaged model has learned from.

    Raises:
        ValueError: a part of the model cannot be written down, as `X has no short form in Python`.
    """
    expressions = Expressions()
    pipeline = printed(expressions.node(model), 4, len("return "))
    modules = sorted({"pandas", *(name.partition(".")[0] for name in expressions.imports)} - {"functools", "scipy"})
    blocks = [*_query(data), _constants(frame, data, expressions)]
    functions = [
        *expressions.definitions(),
        f'def build_pipeline():\n    """The model, before it has learned anything."""\n    return {pipeline}\n',
        _load(frame, target, data),
        _MAIN,
        'if __name__ == "__main__":\n    main(Path(sys.argv[1]))\n',
    ]
    code = "\n".join(blocks) + "".join(f"\n\n{function}" for function in functions)
    return "\n".join([_head(title, note, modules), _imports(expressions.imports, numpy="np." in code), code])


def _head(title: str, note: str, modules: Iterable[str]) -> str:
    versions = [f"Python {platform.python_version()}"]
    for module in modules:
        name = DISTRIBUTIONS.get(module, module)
        versions.append(f"{name} {importlib.metadata.version(name)}")
    about = f"Trained by Kaizen with {', '.join(versions)}."
    paragraphs = [f"{title[:WIDTH]}.", *([note] if note else []), about, "Usage: python pipeline.py ROWS.parquet (or ROWS.csv)"]
    wrapped = (textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False) for paragraph in paragraphs)
    plain = "\n\n".join(wrapped).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{plain}\n"""\n'


def _imports(wanted: Iterable[str], *, numpy: bool) -> str:
    """As isort has them: the standard library, then everything else by module."""
    third: dict[str, set[str]] = {"threadpoolctl": {"threadpool_limits"}}
    for full in wanted:
        module, _, name = full.rpartition(".")
        third.setdefault(module, set()).add(name)
    standard = ["import sys\n", *(["from functools import partial\n"] if third.pop("functools", None) else [])]
    standard.append("from pathlib import Path\n")
    lines = [*(["import numpy as np\n"] if numpy else []), "import pandas as pd\n"]
    for module in sorted(third):
        names = sorted(third[module], key=lambda name: (not name.isupper(), not name[0].isupper(), name))  # constants, classes, …
        line = f"from {module} import {', '.join(names)}\n"
        if len(line) > 89:
            line = f"from {module} import (\n{''.join(f'    {name},{chr(10)}' for name in names)})\n"
        lines.append(line)
    return f"{''.join(standard)}\n{''.join(lines)}"


def _query(data: Data) -> list[str]:
    lines = ["# The rows come from", *(f"#   {one.name}: {' '.join(one.where.split())}" for one in data.sources)]
    if data.query:
        lines += ["# by this query in DuckDB's SQL:", *(f"#   {line}".rstrip() for line in data.query.splitlines())]
    return ["\n".join(lines) + "\n"]


def _constants(frame: pd.DataFrame, data: Data, expressions: Expressions) -> str:
    types = Call("{", [(f"{text(str(name))}: ", Word(text(str(kind)))) for name, kind in frame.dtypes.items()], "}")
    lines = [f"TARGET = {text(data.target)}"]
    if data.timestamp:
        lines.append(f"TIMESTAMP = {text(data.timestamp)}")
    lines.append(f"FEATURES = {printed(types, 0, len('FEATURES = '))}")
    lines += expressions.constants
    return "\n".join(lines) + "\n"


def _load(frame: pd.DataFrame, target: npt.NDArray[Any], data: Data) -> str:
    """`load`, with a line for each thing that this model's data need."""
    kinds = {str(kind) for kind in frame.dtypes}
    lines = [
        "def load(path):",
        '    """Features and target, in the order and with the types that were learned from."""',
        '    read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv',
        "    rows = read(path)",
    ]
    if data.timestamp:
        lines.append("    rows[TIMESTAMP] = pd.to_datetime(rows[TIMESTAMP], utc=True)")
    lines += ["    rows = rows.dropna(subset=TARGET)"] if data.target_missing == "Drop" else []
    if data.timestamp:
        lines.append("    order = [TIMESTAMP, *rows.columns.drop(TIMESTAMP)]")
    order = "order" if data.timestamp else "list(rows.columns)"
    lines.append(f"    rows = rows.sort_values({order}, ignore_index=True)")
    if data.window_seconds:
        lines += [
            f"    oldest = rows[TIMESTAMP].max() - pd.Timedelta(seconds={data.window_seconds})",
            "    rows = rows[rows[TIMESTAMP] > oldest].reset_index(drop=True)",
        ]
    lines += ["    features = {}", "    for name, kind in FEATURES.items():", "        column = rows[name]"]
    branch = "if"
    if "object" in kinds:
        lines += [
            f'        {branch} kind == "object":',
            "            column = column.astype(object).where(column.notna(), np.nan)",
        ]
        branch = "elif"
    if "datetime64[us]" in kinds:
        lines += [
            f'        {branch} kind == "datetime64[us]":',
            "            column = pd.to_datetime(column, utc=True).dt.tz_localize(None)",
        ]
    lines += [
        "        features[name] = column.astype(kind)",
        f"    return pd.DataFrame(features), rows[TARGET].astype({text(str(target.dtype))}).to_numpy()",
    ]
    return "\n".join(lines) + "\n"


_MAIN = '''def main(path):
    """Fit the model to the rows of a file, and say how well it knows them."""
    features, target = load(path)
    with threadpool_limits(1):  # sums in another order have other last digits
        model = build_pipeline().fit(features, target)
        score = model.score(features, target)
    print(model)
    print(f"score on the {len(target)} rows that it has learned from: {score:.4f}")
'''
