"""Events as JSON."""

from __future__ import annotations

import msgspec

from samullm_tui.domain.event import AnyEvent

__all__ = ["FORMAT", "decode", "encode"]

FORMAT = 1
"""Of journals. It grows when an older program could not read a newer journal and ought to say so."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: AnyEvent) -> bytes:
    """Compact JSON without a newline; the kind of event is under "event"."""
    return _encoder.encode(event)


def decode(payload: bytes) -> AnyEvent:
    """Raises msgspec.DecodeError or its child ValidationError when `payload` is no event of this version."""
    return _decoder.decode(payload)
