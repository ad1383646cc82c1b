"""Forecast error on every measured set: times of steps, of tokens and of whole runs, always of what no fit has seen.

Then what the estimate of a mixture rests on. The sets lie in ../shared/data; without it there is nothing to compare
with. With --markdown the tables are those of docs/accuracy.md.
"""

from __future__ import annotations

import sys
from dataclasses import astuple

from benchmarks.latency_sets import accuracy, fits_of
from benchmarks.make_catalog import MEASURED, authors_iterations
from benchmarks.mixture_sets import beside_the_rows, by_assumption, by_kind, of_tokens_that_differ
from benchmarks.table import print_markdown, print_table

ALL_SETS = ("measured set", "what", "rows", "our error (median)", "bias", "others")
BY_KIND = ("kind of row", "rows", "error", "bias", "bias, 1 to 31 sequences")
BY_ASSUMPTION = ("assumption changed", "error", "bias")
TOKENS_THAT_DIFFER = (
    "sequences",
    "forecast, s",
    "measured, s",
    "error",
    "measured, tuned kernel, s",
    "error",
)


def main() -> None:
    if not MEASURED.is_dir():
        print(f"forecast error on every measured set: skipped, the measured data are not at {MEASURED}")
        return
    show = print_markdown if "--markdown" in sys.argv else print_table
    steps = authors_iterations(MEASURED)
    fits = fits_of(steps)
    rows = [astuple(row) for row in accuracy(MEASURED, steps, fits)]
    show("forecast error on every measured set, on rows kept out of the fit", ALL_SETS, rows)
    print("\nskipped: vidur/ (another simulator's prediction, not a measurement)")
    show("Mixtral left out, by kind of row (medians)", BY_KIND, list(by_kind(steps, fits)))
    show("Mixtral left out, by assumption (medians)", BY_ASSUMPTION, list(by_assumption(steps, fits)))
    print("\nin the authors' log:", *beside_the_rows(MEASURED), sep="\n- ")
    show(
        "Mixtral by the shipped profile, batches of random tokens (simulated)",
        TOKENS_THAT_DIFFER,
        list(of_tokens_that_differ()),
    )


if __name__ == "__main__":
    main()
