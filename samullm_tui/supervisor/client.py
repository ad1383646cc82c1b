"""Talks to the supervisor of a run."""

from __future__ import annotations

import socket

import msgspec

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.supervisor.control import Asked, Command, Reply, Status, short_path
from samullm_tui.supervisor.spec import RunPaths, existing_run

__all__ = ["ControlClient"]

TIMEOUT_S = 10.0


class ControlClient:
    """Each call opens a connection of its own and blocks until it is answered: call it off an event loop.

    All raise RunError when the supervisor refuses, or none answers.
    """

    def __init__(self, run: str | RunPaths, timeout_s: float = TIMEOUT_S) -> None:
        """Raises RunNotFoundError."""
        self._paths = run if isinstance(run, RunPaths) else existing_run(run)
        self._timeout_s = timeout_s

    def status(self) -> Status:
        return self.send("status")

    def approve(self, rank: int = 1, by: str = "operator") -> Status:
        """Approves the candidate of this rank. On return the approval is durable."""
        return self.send("approve", rank=rank, by=by)

    def pause(self) -> Status:
        """Sends no more requests; engines stay, and what is in flight goes on."""
        return self.send("pause")

    def resume(self) -> Status:
        """Ends a pause."""
        return self.send("resume")

    def drain(self) -> Status:
        """Finishes what is in flight, then stops."""
        return self.send("drain")

    def stop(self) -> Status:
        """Stops now. What is in flight runs again when the run is resumed."""
        return self.send("stop")

    def replan(self, by: str = "operator") -> str:
        """Asks the rescheduler for a decision now; returns what it said to that."""
        reply = self._ask(Command("replan", by=by))
        self._status(reply)
        return reply.said

    def accept(self, number: int, by: str = "operator") -> Status:
        """Does what proposal `number` proposes. On return that is durable."""
        return self.send("accept", number=number, by=by)

    def refuse(self, number: int, by: str = "operator") -> Status:
        """Stays with the plan in force instead."""
        return self.send("refuse", number=number, by=by)

    def send(self, command: Asked, *, rank: int = 1, by: str = "operator", number: int = 0) -> Status:
        return self._status(self._ask(Command(command, rank, by, number)))

    def _status(self, reply: Reply) -> Status:
        """Of an answer that is no refusal."""
        if not reply.ok or reply.status is None:
            raise RunError(Problem(self._paths.run, "", reply.error))
        return reply.status

    def _ask(self, command: Command) -> Reply:
        try:
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
                short_path(self._paths.socket) as address,
            ):
                connection.settimeout(self._timeout_s)
                connection.connect(address)
                connection.sendall(msgspec.json.encode(command) + b"\n")
                with connection.makefile("rb") as lines:
                    line = lines.readline()
            return msgspec.json.decode(line, type=Reply)
        except (OSError, msgspec.DecodeError) as error:
            right = "`samullm-tui runs` says how it stands"
            raise RunError(
                Problem(self._paths.run, "", f"its supervisor does not answer ({error})", right)
            ) from error
