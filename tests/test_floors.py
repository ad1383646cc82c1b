"""The floors of the house: a room imports only what its floor allows, and pure rooms touch nothing impure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "samullm_tui"

# Which rooms each room may import. `locations` (paths) stands beside the rooms that touch files, `worker` (what a process
# of its own answers) beside those that have one.
MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "locations": set(),
    "worker": {"domain"},
    "lengths": {"domain"},
    "latency": {"domain"},
    "journal": {"domain"},
    "workload": {"domain", "locations"},
    "simulate": {"domain", "latency"},
    "planner": {"domain", "lengths", "latency", "simulate"},
    "hindsight": {"domain", "lengths", "latency", "simulate", "planner"},
    "catalog": {"domain", "lengths", "latency"},
    "telemetry": {"domain"},
    "engines": {"domain", "locations", "latency", "simulate"},
    "forecast": {
        *("domain", "lengths", "latency", "simulate", "planner", "workload", "catalog", "locations"),
        *("engines", "worker"),
    },
    "supervisor": {
        *("domain", "lengths", "latency", "simulate", "planner", "workload", "catalog", "locations"),
        *("journal", "engines", "telemetry", "forecast", "hindsight", "worker"),
    },
    "console": {"domain", "journal", "locations", "supervisor", "telemetry", "worker", "workload"},
    "cli": {
        *("domain", "lengths", "latency", "simulate", "planner", "workload", "catalog", "locations"),
        *("journal", "engines", "telemetry", "forecast", "supervisor", "console"),
    },
}
PURE = ("domain", "lengths", "latency", "simulate", "planner", "hindsight")
IMPURE_MODULES = {
    *(
        "os",
        "sys",
        "io",
        "time",
        "datetime",
        "pathlib",
        "socket",
        "subprocess",
        "random",
        "secrets",
        "shutil",
    ),
    *("tempfile", "threading", "asyncio", "aiohttp", "psutil", "pynvml", "glob", "signal"),
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if room_of(p) not in {"__init__", "__main__"}]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_the_floors_below(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "samullm_tui" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] == room or parts[1] in MAY_IMPORT[room], f"{room} must not import {name}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if room_of(p) in PURE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_pure_room_has_no_clock_file_socket_or_unseeded_chance(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name in imports_of(tree)} & IMPURE_MODULES
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "input", "print"}
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "random"
        ):
            assert node.attr in {"Generator", "SeedSequence"}, "randomness is a passed-in numpy Generator"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "default_rng"
        ):
            assert node.args, "a generator needs a seed"
