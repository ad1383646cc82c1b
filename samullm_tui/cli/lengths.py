"""lengths: how long the answers of each LLM are, by what is known and by what was observed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import msgspec

from samullm_tui.cli.output import print_json, print_table, say
from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.length_report import LengthReport, LLMLengths
from samullm_tui.domain.sanitise import sanitise
from samullm_tui.forecast.answers import Observed, answers_of_events, read_answers
from samullm_tui.forecast.learnt import write_learnt
from samullm_tui.forecast.lengths import learnt_report, length_report
from samullm_tui.journal.compressed import SUFFIX
from samullm_tui.journal.framing import looks_framed
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.spec import existing_run
from samullm_tui.workload.application_file import load_application

__all__ = ["lengths"]


def lengths(arguments: Namespace) -> int:
    """The report of an application, of what was observed, or of the one with the other blended in."""
    if arguments.application is None and arguments.learn is None:
        raise InputError(
            Problem("lengths", "", "nothing to report on", "an application file, or --learn RUN|FILE")
        )
    if arguments.name and arguments.learn is None:
        raise InputError(Problem("--as", "", "nothing was learnt", "give --learn RUN|FILE with it"))
    observed = _observe(arguments.learn) if arguments.learn is not None else None
    report = _report(arguments, observed)
    kept: dict[str, object] = {}
    if observed is not None:
        kept["without_answer"] = observed.without_answer
        if arguments.name:
            kept["learnt"] = arguments.name
            kept["file"] = str(write_learnt(arguments.name, observed.learnt))
    if arguments.json:
        print_json({"llms": [_row_json(row) for row in report.llms], **kept})
        return 0
    _print(report)
    if observed is not None and observed.note:
        say(observed.note)
    if arguments.name:
        say(f'kept: `lengths = "{arguments.name}"` in an application plans with it')
    return 0


def _report(arguments: Namespace, observed: Observed | None) -> LengthReport:
    learnt = observed.learnt if observed else None
    if arguments.application is not None:
        application = load_application(arguments.application, allow_outside=arguments.allow_outside)
        return length_report(application, learnt)
    assert learnt is not None
    return learnt_report(learnt)


def _observe(source: str) -> Observed:
    """Of a run of this machine by its name, a run's folder, a journal or recording, or a file with answers."""
    path = Path(source)
    if not path.exists():
        if "/" in source or path.suffix:
            right = "a file of answers, a run's name, or its folder"
            raise InputError(Problem(source, "", "there is no such file or run", right))
        path = existing_run(source).folder
    if path.is_dir() or path.suffix == SUFFIX or _is_journal(path):
        return answers_of_events(read_events(path), source)
    return read_answers(path)


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(64)
            return bool(head) and looks_framed(head)
    except OSError as error:
        raise InputError(
            Problem(str(path), "", error.strerror or str(error), "a file that can be read")
        ) from error


def _row_json(row: LLMLengths) -> dict[str, object]:
    return {
        "llm": row.llm,
        "source": row.source,
        "samples": row.samples,
        "mean": row.mean,
        "p50": row.p50,
        "p90": row.p90,
        "p99": row.p99,
        "max": row.max,
        "censored_share": row.censored_share,
        "families": [
            {"name": f.name, "parameters": f.parameters, "ks": f.ks, "aic": f.aic} for f in row.families
        ],
        "estimated": row.estimated,
        "tail": {"share": row.tail_share, "beyond": row.tail_beyond, "family": row.tail_family},
        "strata": msgspec.to_builtins(row.strata),
        "prompts": row.prompts,
        "why": row.why,
    }


def _print(report: LengthReport) -> None:
    header = ("LLM", "samples", "mean", "p50", "p90", "p99", "max", "cut short", "best family", "KS")
    rows = []
    for row in report.llms:
        best = row.families[0] if row.families else None
        figures = (f"{value:,.0f}" for value in (row.mean, row.p50, row.p90, row.p99, row.max))
        family = (best.name, f"{best.ks:.3f}") if best else ("–", "–")
        rows.append((row.llm, f"{row.samples:,}", *figures, f"{100 * row.censored_share:.1f} %", *family))
    print_table(header, rows)
    for row in report.llms:
        print()
        for text in (
            f"{row.llm}: {row.why}",
            row.prompts,
            row.estimated and f"estimated: {row.estimated}",
            row.source,
        ):
            if text:
                print(sanitise(text))
        if row.strata:
            _print_strata(row)


def _print_strata(row: LLMLengths) -> None:
    header = ("prompts up to", "samples", "mean", "p50", "p90")
    print_table(
        header,
        [
            (
                f"{s.prompt_tokens:,}" if s.prompt_tokens is not None else "longer",
                *(f"{s.samples:,}", f"{s.mean:,.0f}", f"{s.p50:,.0f}", f"{s.p90:,.0f}"),
            )
            for s in row.strata
        ],
    )
