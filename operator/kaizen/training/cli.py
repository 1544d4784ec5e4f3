"""`kaizen train` and `kaizen reproduce`: what a training Pod runs, in a terminal and on local files or S3."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaizen.training.job import Result
    from kaizen.training.judge.gates import Champion

__all__ = ["add_commands"]

MARKS = {"Passed": "✓", "Failed": "✗", "Skipped": "–", "NotComparable": "?"}


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `train` and `reproduce`."""
    train = subparsers.add_parser("train", help="train, judge and package a model as a TrainingJob says, without a cluster")
    train.add_argument(
        "-f", "--file", type=Path, required=True, metavar="JOB.yaml", help="a TrainingJob; its sources may be local files"
    )
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where the model goes; an older model there is replaced"
    )
    train.add_argument("--champion", type=Path, metavar="DIR", help="the model that serves, for gates against production")
    train.set_defaults(run=_train)

    again = subparsers.add_parser("reproduce", help="make a version's model again from what it recorded, and compare")
    again.add_argument("model", metavar="MODEL|DIR", help="a model of the registry, or a directory that `kaizen train` wrote")
    again.add_argument("version", type=int, nargs="?", metavar="VERSION", help="of a model of the registry")
    again.add_argument("-n", "--namespace", help="of the model; this Pod's own or `default` when omitted")
    again.add_argument("--data", metavar="URI", help="read this file, directory or glob instead of the recorded source")
    again.set_defaults(run=_reproduce)


def _train(parsed: argparse.Namespace) -> int:
    begun = time.monotonic()
    from kaizen.training import progress

    shown = progress.for_stream(sys.stderr, shutil.get_terminal_size().columns)
    shown.step("Ingest", "starting")
    from kaizen.training.errors import Failure

    try:
        result = _run(parsed, shown)
    except Failure as failure:
        return _failed(shown, f"{failure.code}: {failure.message}")
    except OSError as problem:
        return _failed(shown, str(problem))
    _close(shown)
    print(_report(result, parsed, time.monotonic() - begun))
    return 0


def _reproduce(parsed: argparse.Namespace) -> int:
    from kaizen.training.reproduce import reproduce_command

    return reproduce_command(parsed)


def _run(parsed: argparse.Namespace, shown: Any) -> "Result":
    from kaizen.training.errors import Failure
    from kaizen.training.spec import read_job

    spec = read_job(parsed.file)
    out: Path = parsed.output
    if out.exists() and not out.is_dir():
        raise Failure("Package", "DirectoryNotEmpty", f"{out} is a file: name a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / "manifest.json").is_file():
        raise Failure("Package", "DirectoryNotEmpty", f"{out} holds something else than a model: name another directory")
    champion = _champion(parsed.champion) if parsed.champion else None
    from kaizen.training.access import Access
    from kaizen.training.job import Surroundings, run

    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the finished model takes its place in one step and a failed run leaves the old one alone.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        around = Surroundings(Access.from_environment(os.environ), shown, champion)
        result = run(spec, around, Path(scratch) / "model")
        if out.exists():
            out.rename(Path(scratch) / "old")
        result.directory.rename(out)
    return result


def _champion(directory: Path) -> "Champion":
    from kaizen.training.errors import Failure
    from kaizen.training.judge.gates import Champion
    from kaizen.training.package import verify

    try:
        digest = verify(directory)
    except (OSError, ValueError) as problem:
        raise Failure("Gates", "ChampionUnusable", f"{directory} is no model to compare with: {problem}") from problem
    return Champion.open(directory, str(directory), digest)


def _report(result: "Result", parsed: argparse.Namespace, seconds: float) -> str:
    document = result.manifest
    test = {one["name"]: one["value"] for one in document["metrics"] if one["dataset"] == "test"}
    constant = {one["name"]: one["value"] for one in document["metrics"] if one["dataset"] == "baseline"}
    split = document["split"]
    until = f" until {document['trainedUntil']}" if document["trainedUntil"] else ""
    engine = f"{document['engine']} engine" + (f", because {document['engineReason']}" if document["engineReason"] else "")
    held_out = f"on {split['testRows']} held-out rows"
    lines = [
        f"Made {document['model']} in {seconds:.1f} s: {document['estimator']['name']} on {document['data']['rows']} rows{until}",
        f"  {parsed.output}  {result.digest}  {engine}",
        "",
        f"  {held_out:<26}{'model':>10}{'baseline':>10}",
        *(f"    {name:<24}{value:>10.4f}{constant.get(name, float('nan')):>10.4f}" for name, value in test.items()),
        f"  {document['refit']['message']}",
    ]
    if result.gates:
        lines += ["", *(f"  {MARKS[gate.outcome]} {gate.name}: {gate.outcome}, {gate.message}" for gate in result.gates)]
    lines += [f"  scikit-learn warned: {warning}" for warning in document["warnings"]]
    return "\n".join([*lines, "", f"Try it:  kaizen serve {parsed.output}"])


def _failed(shown: Any, sentence: str) -> int:
    _close(shown)
    print(f"kaizen: {sentence}", file=sys.stderr)
    return 1


def _close(shown: Any) -> None:
    if hasattr(shown, "close"):
        shown.close()
