"""schemathesis: a program of others reads /openapi.json and asks for everything it promises, and for what it does not."""

import subprocess
import sys
from pathlib import Path

from tests.soak.pods import HEADER, Pod
from tests.soak.problems import Problem

__all__ = ["check_document"]

UNSAYABLE = "positive_data_acceptance"
"""The document cannot say that a shape must be the number of the data, so some of what fits it is refused."""


def check_document(server: Pod, examples: int, directory: Path, seed: int = 6) -> str:
    """So many examples of each operation; the last line that schemathesis says."""
    program = Path(sys.executable).with_name("schemathesis")
    address = f"http://127.0.0.1:{server.port}"
    done = subprocess.run(
        (
            *(str(program), "--no-color", "run", f"{address}/openapi.json", "--header", HEADER, "--seed", str(seed)),
            *("--max-examples", str(examples), "--exclude-checks", UNSAYABLE, "--phases", "examples,coverage,fuzzing"),
            *("--warnings", "off"),
        ),
        cwd=directory,  # it leaves files
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    if done.returncode:
        raise Problem(f"schemathesis found: {done.stdout[-8000:]}{done.stderr[-2000:]}")
    server.check_log()
    lines = [line.strip() for line in done.stdout.splitlines() if "passed" in line or "generated" in line]
    return "schemathesis: " + "; ".join(lines)
