"""How much memory an application takes is told before it is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.domain.errors import ApplicationError
from samullm_tui.forecast.size import check_size, least_requests
from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests

GIB = 1024**3
MANY = """
name = "many"
title = "t"
[llms.a]
checkpoint = "tiny:llama"
[data.records.synthetic]
records = 1000000
seed = 1
[data.records.synthetic.fields]
text = 20
[nodes.answer]
llm = "a"
from = "records"
n = 10
prompt = "{text}"
sampling = { max_tokens = 8 }
"""


def test_ten_million_requests_say_what_they_need_before_they_are_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(MANY)
    application = load_application(path)
    assert least_requests(application) == 10_000_000
    with pytest.raises(
        ApplicationError, match=r"10,000,000 requests or more take about 1\d\.\d GiB .* 4.0 GiB are free"
    ):
        check_size(application, 4 * GIB)
    check_size(application, 64 * GIB)


@pytest.mark.parametrize("name", ["ensembling", "routing", "chain-summary", "mixed", "selftest"])
def test_no_more_requests_are_counted_than_there_are(name: str) -> None:
    application = load_application(APPS / f"{name}.toml")
    assert least_requests(application) <= len(build_requests(application).table)


def test_records_of_a_file_are_counted_without_reading_them_as_data(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": "1", "text": "x"}\n' * 7)
    path = tmp_path / "file.toml"
    before, _, after = MANY.partition("[data.records.synthetic]")
    path.write_text(f'{before}[data.records]\nfile = "r.jsonl"\n{after[after.index("[nodes") :]}')
    assert least_requests(load_application(path)) == 70
