"""What the memory and the arithmetic of the device achieve, by PyTorch: bandwidths, matrix rates by type."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import to_builtins

from benchmarks.gpu.pieces import Found, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from samullm_tui.engines.hardware import measure_hardware

__all__ = ["PIECE"]

SECONDS = {"full": 20.0, "small": 4.0}
MOST_BYTES = {"full": 0, "small": 64 * 1024**2}
"""The largest block that is copied; 0: the measurement's own."""


def parts(place: Place) -> list[Part]:
    device = "cuda:0" if place.device == "gpu" else "cpu"

    def measure() -> Found:
        found: Found = to_builtins(measure_hardware(device, SECONDS[place.sizes], MOST_BYTES[place.sizes]))
        return found

    return [Part("rates", measure, needs_s=2 * SECONDS[place.sizes])]


def table(_place: Place, found: Mapping[str, Found]) -> Table:
    rows = []
    for rate in found["rates"]["measured"] if "rates" in found else ():
        in_bytes = rate["what"] in {"copy", "read"}
        unit, scale = ("GB/s", 1e9) if in_bytes else ("TFLOP/s", 1e12)
        best, median = (f"{rate[name] / scale:,.4g} {unit}" for name in ("per_s", "median_per_s"))
        rows.append((rate["what"], rate["size"], best, median))
    return Table("(a) memory and arithmetic", ("what", "size", "best", "median"), rows)


PIECE = Piece("hardware", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
