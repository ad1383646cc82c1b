"""The shipped applications with more or fewer records: the same shape at another size."""

from __future__ import annotations

from msgspec.structs import replace

from samullm_tui.locations import APPS
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import Workload, build_requests

__all__ = ["APPLICATIONS", "scaled", "shipped"]

APPLICATIONS = ("chain-summary", "ensembling", "routing", "mixed")


def shipped(app: str) -> Workload:
    return build_requests(load_application(APPS / f"{app}.toml"))


def scaled(app: str, requests: int) -> Workload:
    """The application with about so many requests in all: every data set grows or shrinks by the same factor."""
    application = load_application(APPS / f"{app}.toml")
    factor = requests / len(build_requests(application).table)
    data = []
    for one in application.data:
        assert one.synthetic is not None, "the four applications are drawn"
        records = max(1, round(int(str(one.synthetic["records"])) * factor))
        data.append(replace(one, synthetic={**one.synthetic, "records": records}))
    return build_requests(replace(application, data=tuple(data)))
