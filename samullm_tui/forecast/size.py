"""How large an application is, told before its requests are laid out: millions of them take gigabytes."""

from __future__ import annotations

from pathlib import Path

from samullm_tui.domain.application import Application, DataSet, Node
from samullm_tui.domain.errors import ApplicationError, Problem

__all__ = ["check_size", "least_requests"]

BYTES_PER_REQUEST = 1150
"""Peak memory of laying out and planning a million requests of one LLM, without that of a small application."""
GIB = 1024**3
READ_BYTES = 1 << 20


def check_size(application: Application, available_bytes: float) -> None:
    """Raises ApplicationError when planning would take more memory than there is, saying how much."""
    requests = least_requests(application)
    needed = requests * BYTES_PER_REQUEST
    if needed > available_bytes:
        wrong = (
            f"{requests:,} requests or more take about {needed / GIB:.1f} GiB of memory to plan, "
            f"{available_bytes / GIB:.1f} GiB are free"
        )
        right = "fewer records or repetitions, or a machine with more memory"
        raise ApplicationError(Problem(application.file, "", wrong, right))


def least_requests(application: Application) -> int:
    """Requests of all nodes, as far as is known without reading the data: a chain counts as one step, and nodes that
    take only some of the records count as none.
    """
    records = {data.name: _records(data) for data in application.data}
    return sum(records[node.data] * _repeats(node) for node in application.nodes if node.where is None)


def _repeats(node: Node) -> int:
    """Requests of a node for one record."""
    return node.n * (len(node.sources) if node.join == "any" else 1)


def _records(data: DataSet) -> int:
    if data.synthetic is not None:
        count = data.synthetic.get("records", 0)
        return count if isinstance(count, int) else 0
    lines = 0
    try:
        with Path(data.file or "").open("rb") as file:
            while block := file.read(READ_BYTES):
                lines += block.count(b"\n")
    except OSError:
        return 0  # reading it says what is wrong
    return lines
