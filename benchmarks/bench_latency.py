"""Forecast error on every measured set: times of steps, of tokens and of whole runs, always of what no fit has seen.

The sets lie in ../shared/data; without it there is nothing to compare with. With --markdown the table is one of
Markdown, for the README.
"""

from __future__ import annotations

import sys
from dataclasses import astuple

from benchmarks.latency_sets import accuracy
from benchmarks.make_catalog import MEASURED
from benchmarks.table import print_table


def main() -> None:
    if not MEASURED.is_dir():
        print(f"forecast error on every measured set: skipped, the measured data are not at {MEASURED}")
        return
    rows = [astuple(row) for row in accuracy(MEASURED)]
    header = ("measured set", "what", "rows", "our error (median)", "bias", "others")
    if "--markdown" in sys.argv:
        print("\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)))
    else:
        print_table("forecast error on every measured set, on rows kept out of the fit", header, rows)
    print("skipped: vidur/ (another simulator's prediction, not a measurement)")


if __name__ == "__main__":
    main()
