"""In a real terminal: it is left as it was found, however the console ends; colours are what it can show."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


class Terminal:
    """A pseudo-terminal with the console in it."""

    def __init__(self, folder: Path, *more: str, **environment: str) -> None:
        self.output = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            known = {key: value for key, value in os.environ.items() if key not in {"COLORTERM", "NO_COLOR"}}
            known |= {"TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", "LINES": "24"}
            arguments = [sys.executable, "-m", "tests.console.console_program", str(folder), *more]
            os.execve(sys.executable, arguments, {**known, **environment})
        self.before = termios.tcgetattr(self.descriptor)

    def read_until(self, words: bytes) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.output:
            assert time.monotonic() < deadline, f"{words!r} did not come; {self.output[-300:]!r}"
            self._read()

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self.output += data
        return bool(data)

    def end(self) -> int:
        """Reads to the end, and returns the exit status."""
        while self._read():
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                while select.select([self.descriptor], [], [], 0)[0] and self._read():
                    pass
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    yield opened
    if opened.pid:
        os.kill(opened.pid, signal.SIGKILL)
        os.waitpid(opened.pid, 0)
    os.close(opened.descriptor)


@pytest.mark.parametrize(
    ("how", "status"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP), (b"q", 0)],
)
def test_the_terminal_is_restored(terminal: Terminal, how: signal.Signals | bytes, status: int) -> None:
    terminal.read_until(b"forecast")
    assert not termios.tcgetattr(terminal.descriptor)[3] & termios.ECHO
    if isinstance(how, bytes):
        os.write(terminal.descriptor, how)
    else:
        os.kill(terminal.pid, how)
    assert terminal.end() == status
    assert is_restored(terminal)


def is_restored(terminal: Terminal) -> bool:
    """The first screen, the cursor, no reports of focus, and the line discipline as it was."""
    sequences = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1004l")
    echoes = termios.tcgetattr(terminal.descriptor)[3] == terminal.before[3]
    return echoes and all(sequence in terminal.output for sequence in sequences)


def test_a_console_that_crashes_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "crash", XDG_CONFIG_HOME=str(tmp_path))
    terminal.read_until(b"forecast")
    assert terminal.end() != 0
    assert is_restored(terminal)
    assert b"IndexError" in terminal.output
    os.close(terminal.descriptor)


def test_colours_are_exact_and_the_mouse_is_left_alone(terminal: Terminal) -> None:
    terminal.read_until(b"forecast")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.end()
    assert b"38;5;252;48;5;234" in terminal.output
    assert not re.search(rb"\x1b\[[0-9;]*38;2;", terminal.output), (
        "no colour is left to the terminal to approximate"
    )
    assert b"\x1b[?1000h" not in terminal.output


def test_the_mouse_works_where_it_is_asked_for(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "mouse", XDG_CONFIG_HOME=str(tmp_path))
    terminal.read_until(b"forecast")
    assert b"\x1b[?1000h" in terminal.output
    os.write(
        terminal.descriptor, b"\x1b[<0;4;24M\x1b[<0;4;24m"
    )  # pressed and let go on the first key of the last line
    terminal.read_until(b"pause: ")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.end()
    assert b"\x1b[?1000l" in terminal.output
    os.close(terminal.descriptor)


def test_without_colour_letters_still_tell_llms_apart(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, XDG_CONFIG_HOME=str(tmp_path), NO_COLOR="1")
    terminal.read_until(b"AAAA")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.end()
    os.close(terminal.descriptor)
    assert not re.search(rb"\x1b\[[0-9;]*[34]8;", terminal.output)
