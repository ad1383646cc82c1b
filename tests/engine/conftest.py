"""What an engine said while a test failed is shown with the failure."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

LINES = 60
WIDTH = 240


@pytest.fixture(autouse=True)
def engines_say_why(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prints the errors in the logs that were written to meanwhile; pytest shows what failed tests print."""
    began_s = time.time()
    yield
    for log in tmp_path_factory.getbasetemp().rglob("*.log"):
        if log.stat().st_mtime >= began_s:
            errors = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
            print(
                f"{log.name} of {log.parent.name}, its last errors:",
                *(line[:WIDTH] for line in errors[-LINES:]),
                sep="\n",
            )
