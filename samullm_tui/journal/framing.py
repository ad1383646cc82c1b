r"""How an event lies in the file: one line, `LENGTH CRC32 PAYLOAD\n`, both numbers eight lower-case hex digits.

A payload has no newline, so a line that was cut, overwritten or zeroed never looks like a whole frame, and the
file stays readable with `less`. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["MAX_PAYLOAD_BYTES", "FrameScan", "Frames", "frame", "looks_framed", "payload_of", "unframe"]

MAX_PAYLOAD_BYTES = 64 * 1024**2
HEADER_BYTES = 18
# A lookahead, so that hex digits before a header cannot hide it.
HEADER = re.compile(rb"(?=([0-9a-f]{8}) [0-9a-f]{8} )")
BEGINNING = re.compile(rb"[0-9a-f]{0,8}\Z|[0-9a-f]{8} ([0-9a-f]{0,8}\Z|[0-9a-f]{8} )|\0+\Z")


def frame(payload: bytes) -> bytes:
    """One line of the file. The payload must not hold a newline."""
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def payload_of(line: bytes) -> bytes | None:
    """The payload of a whole, undamaged line; else None."""
    payload = line[HEADER_BYTES:-1]
    # Framing again compares every byte, the header's digits too: `0A` is not `0a`.
    return payload if line == frame(payload) else None


def looks_framed(data: bytes) -> bool:
    """Whether a file could begin with `data`: (the beginning of) a frame, or the zeros of an unfinished write."""
    return BEGINNING.match(data[:HEADER_BYTES]) is not None


class Frames(NamedTuple):
    """What some bytes hold: whole payloads up to `good_bytes`, and what comes after them.

    "nothing": they end with a frame. "torn": no frame follows, as after an interrupted write.
    "damaged": there are whole frames behind bytes that are none.
    """

    payloads: list[bytes]
    good_bytes: int
    rest: Literal["nothing", "torn", "damaged"]


def unframe(data: bytes) -> Frames:
    """Takes whole frames from the start of `data` until something else comes."""
    payloads: list[bytes] = []
    good = 0
    while end := data.find(b"\n", good) + 1:
        payload = payload_of(data[good:end])
        if payload is None:
            break
        payloads.append(payload)
        good = end
    if good == len(data):
        return Frames(payloads, good, "nothing")
    return Frames(payloads, good, "damaged" if _holds_frame(data, good) else "torn")


def _holds_frame(data: bytes, start: int) -> bool:
    for match in HEADER.finditer(data, start):
        end = match.start() + HEADER_BYTES + int(match[1], 16) + 1
        if data[end - 1 : end] == b"\n" and payload_of(data[match.start() : end]) is not None:
            return True
    return False


@dataclass(slots=True)
class FrameScan:
    """Frames of a file that is fed chunk by chunk.

    `good_bytes`: where the next frame must begin. `rest`: bytes from there on that are no whole frame (yet).
    `damaged`: whole frames follow behind the rest, or the rest is longer than any frame.
    """

    good_bytes: int = 0
    rest: bytes = field(default=b"", repr=False)
    damaged: bool = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes."""
        data = self.rest + chunk
        frames = unframe(data)
        self.good_bytes += frames.good_bytes
        self.rest = data[frames.good_bytes :]
        self.damaged = frames.rest == "damaged" or len(self.rest) > HEADER_BYTES + MAX_PAYLOAD_BYTES + 1
        return frames.payloads
