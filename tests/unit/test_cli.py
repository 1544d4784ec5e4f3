"""The command `kaizen`: what it prints, writes and returns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hack.paths import REPOSITORY
from kaizen import __version__
from kaizen.api import crd
from kaizen.cli import main


def test_crds_are_printed_as_one_yaml_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crds"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [document["metadata"]["name"] for document in printed] == [
        f"{plural}.mlops.kaizen.dev" for plural in ("trainingjobs", "modelversions", "inferenceservices")
    ]


def test_crds_are_written_and_stale_ones_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "crds"
    assert main(["crds", "--output", str(target)]) == 0
    (target / "mlops.kaizen.dev_oldkinds.yaml").write_text("stale")
    (target / "README.md").write_text("not ours")
    (target / "mlops.kaizen.dev_trainingjobs.yaml").write_text("edited")
    assert main(["crds", "--output", str(target)]) == 0
    written = {path.name: path.read_text() for path in target.iterdir()}
    assert written == {**crd.files(), "README.md": "not ours"}
    assert capsys.readouterr().out == ""


def test_failure_is_one_sentence_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["crds", "--output", str(tmp_path / "file")]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("kaizen: ")
    assert printed.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"kaizen {__version__}\n"


WRONG_USAGE = {
    "no command": [],
    "unknown command": ["fly"],
    "unknown option": ["crds", "--fly"],
    "option without its value": ["crds", "--output"],
    "unknown log level": ["operator", "--log-level", "loud"],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: kaizen" in capsys.readouterr().err


def test_crds_cost_no_library_of_the_operator() -> None:
    program = "import sys; from kaizen.cli import main; main(['crds']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "operator")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {"kopf", "kubernetes", "boto3", "aiohttp", "prometheus_client"}.isdisjoint(done.stderr.split())
