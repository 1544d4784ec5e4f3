"""A little of each part of `make soak` (tests/soak), in processes of its own.  Needs no cluster.

How much is in tests/soak/plan.py.
"""

from pathlib import Path

import pytest

from tests.soak.parts import PARTS, Soak
from tests.soak.plan import QUICK


@pytest.mark.parametrize("name", PARTS)
def test_nothing_breaks_the_server(name: str, tmp_path: Path) -> None:
    for line in PARTS[name](Soak(QUICK, tmp_path)):
        print(line)
