"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test asserts a time, Hypothesis's deadline included: machines are busy, and compiled code compiles once.
# In CI the same examples are tried each time, so that a red run is about the change.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("SAMULLM_NOTHING_SKIPPED") == "1" else "here")

MEASURED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def measured() -> Path:
    """The folder of measured data. Skips where it is absent, as on a user's machine."""
    if not MEASURED.is_dir():
        pytest.skip(f"the measured data are not at {MEASURED}")
    return MEASURED


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the runs and profiles of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMULLM_HOME", str(tmp_path_factory.mktemp("home") / "samullm"))
        yield


NOTHING_SKIPPED = os.environ.get("SAMULLM_NOTHING_SKIPPED") == "1"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skipped test of the real engine or of measured data is a failure: it proved nothing."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    marked = item.get_closest_marker("engine") or "measured" in getattr(item, "fixturenames", ())
    if NOTHING_SKIPPED and report.skipped and marked:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where it must run: {report.longrepr}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real engines take much memory: workers that run side by side take turns with them (`--dist loadgroup`)."""
    for item in items:
        if item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.xdist_group("engine"))
        if "measured" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
