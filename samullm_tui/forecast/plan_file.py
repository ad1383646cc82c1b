"""PLAN.json: one plan, with the application and cluster that it was made for."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.domain.plan import Plan

__all__ = ["PlanFile", "check_plan", "read_plan", "write_plan"]

RIGHT = "a plan as `samullm-tui plan APP -o PLAN.json` writes it"
MAX_BYTES = 16 * 1024 * 1024


class PlanFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan file holds."""

    application: str
    cluster: str
    plan: Plan


def write_plan(path: Path, plan: Plan, *, application: str, cluster: str) -> None:
    """Writes the whole file or nothing. Raises PlanError when it cannot be written."""
    content = msgspec.json.encode(PlanFile(application=application, cluster=cluster, plan=plan))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(msgspec.json.format(content, indent=1) + b"\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise PlanError(Problem(str(path), "", f"cannot be written: {error.strerror}")) from None


def read_plan(path: Path) -> PlanFile:
    """Raises PlanError naming the place in the file that is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PlanError(Problem(str(path), "", f"cannot be read: {error.strerror}", RIGHT)) from None
    if len(content) > MAX_BYTES:
        raise PlanError(Problem(str(path), "", "longer than 16 MiB", RIGHT))
    try:
        read = msgspec.json.decode(content, type=PlanFile)
    except msgspec.ValidationError as error:
        wrong, _, place = str(error).partition(" - at ")
        raise PlanError(Problem(str(path), place.strip("`").removeprefix("$."), wrong, RIGHT)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(Problem(str(path), "", f"not JSON: {error}", RIGHT)) from None
    if not read.plan.stages:
        raise PlanError(Problem(str(path), "plan.stages", "there is no stage", RIGHT))
    return read


def check_plan(read: PlanFile, file: str, *, application: str, wrong: list[str]) -> Plan:
    """The plan, when it is one for `application` and `wrong` (from planner.validity) is empty. Raises PlanError."""
    problems = [Problem(file, "plan", what, "plan again") for what in wrong]
    if read.application != application:
        right = f"a plan for {application!r}"
        problems.insert(0, Problem(file, "application", f"a plan for {read.application!r}", right))
    if problems:
        raise PlanError(problems)
    return read.plan
