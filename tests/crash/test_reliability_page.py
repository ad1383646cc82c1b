"""The page of promises names tests that exist, one row for each promise."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()


def test_every_promise_has_a_row_with_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == 2 * list(range(1, 24)), "kept, and broken on purpose"
    for number, cell in rows:
        files = re.findall(r"`([\w/]+\.py)", cell)
        assert files, number
        texts = {file: (TESTS / file).read_text() for file in files}
        for name in re.findall(r"(?:::|…)(test_\w+)", cell):
            assert any(f"def {name}" in text for text in texts.values()), (number, name)
