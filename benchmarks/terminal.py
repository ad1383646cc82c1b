"""A pseudo-terminal with a program in it: every byte counted, the picture kept, read as fast or slow as asked."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import psutil

__all__ = ["Picture", "Terminal"]

WIDTH, HEIGHT = 80, 24
PIECE_S = 0.1
CSI = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
OTHER = re.compile(
    r"\x1b(?:\[[<=>?][0-9;]*[ -/]*[@-~]|\[[0-9;]*[ -/]+[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()].|[=>78c])"
)


class Picture:
    """What a terminal shows, as far as Textual's output goes: text, and where the cursor is sent."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self._width, self._height = width, height
        self._cells = self._blank()
        self._row = self._column = 0
        self._rest = ""

    def _blank(self) -> list[list[str]]:
        return [[" "] * self._width for _ in range(self._height)]

    @property
    def text(self) -> str:
        return "\n".join("".join(row) for row in self._cells)

    def feed(self, text: str) -> None:
        """Takes the next characters; an escape sequence may come in pieces."""
        text, at = self._rest + text, 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            found = CSI.match(text, at) or OTHER.match(text, at)
            if found is None:
                break
            if found.re is CSI:
                self._obey(found[1], found[2])
            at = found.end()
        self._rest = text[at:]

    def _obey(self, numbers: str, command: str) -> None:
        if command == "H":
            row, _, column = numbers.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif command == "J":
            self._cells = self._blank()

    def _put(self, character: str) -> None:
        if character == "\n":
            self._row += 1
        elif character == "\r":
            self._column = 0
        elif character >= " " and self._row < self._height and self._column < self._width:
            self._cells[self._row][self._column] = character
            self._column += 1


class Terminal:
    """A program in an 80×24 terminal that this process reads. A context manager: it ends with it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.bytes = 0
        self.picture = Picture()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.began_s = time.monotonic()
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execve(command[0], list(command), {**environment, "TERM": "xterm-256color"})
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._process = psutil.Process(self.pid)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)

    @property
    def cpu_s(self) -> float:
        """CPU time of the program so far, user and system."""
        times = self._process.cpu_times()
        return times.user + times.system

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def read(self, seconds: float, bytes_per_s: float = float("inf")) -> int:
        """Reads for that long, at most so fast. Returns how many bytes came."""
        before, end = self.bytes, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if bytes_per_s == float("inf"):
                self._take(min(left, PIECE_S), 65_536)
                continue
            self._take(0.0, int(bytes_per_s * PIECE_S))
            time.sleep(min(left, PIECE_S))
        return self.bytes - before

    def wait_for(self, shown: str | Callable[[str], bool], patience_s: float = 30.0) -> float:
        """Reads until the picture has the words. Returns the seconds that took; raises TimeoutError."""
        holds = shown if callable(shown) else lambda picture: shown in picture
        began = time.monotonic()
        while not holds(self.picture.text):
            if time.monotonic() > began + patience_s:
                raise TimeoutError(f"{shown!r} did not come; shown is:\n{self.picture.text}")
            self._take(PIECE_S, 65_536)
        return time.monotonic() - began

    def _take(self, wait_s: float, most: int) -> None:
        if select.select([self._descriptor], [], [], wait_s)[0]:
            data = os.read(self._descriptor, most)
            self.bytes += len(data)
            self.picture.feed(self._decoder.decode(data))
