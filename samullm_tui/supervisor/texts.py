"""The outputs that prompts of open requests still need. Nothing else of a run's texts is kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import OutputRow, read_row

__all__ = ["Texts"]


class Texts:
    """`offsets`: where the rows of outputs stand that an earlier supervisor committed."""

    def __init__(self, ledger: Ledger, outputs: Path, offsets: Mapping[int, int]) -> None:
        self._ledger = ledger
        self._outputs = outputs
        self._offsets = offsets
        self._kept: dict[int, str] = {}

    def keep(self, index: int, text: str) -> None:
        """The output of a request that just finished."""
        if self._is_needed(index):
            self._kept[index] = text

    def get(self, index: int) -> str:
        """The output of a finished request with an open consumer. Raises JournalError when its row is lost."""
        if index not in self._kept:
            self._kept[index] = read_row(self._outputs, self._offsets[index], OutputRow).output
        return self._kept[index]

    def release(self, index: int) -> None:
        """Request `index` has ended: its sources' outputs may go."""
        for parent in map(int, self._ledger.table.parents_of(index)):
            if parent in self._kept and not self._is_needed(parent):
                del self._kept[parent]

    def __len__(self) -> int:
        return len(self._kept)

    def _is_needed(self, index: int) -> bool:
        return any(map(self._ledger.is_open, self._ledger.children(index)))
