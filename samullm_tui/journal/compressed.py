"""Compressed journals: Zstandard, with a checksum of the whole file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["DAMAGED", "SUFFIX", "compress_into", "open_compressed", "zstd"]

SUFFIX = ".zst"

DAMAGED = (EOFError, zstd.ZstdError)
"""What reading raises when a file is cut short, is something else, or differs from its checksum."""

OPTIONS: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}


def open_compressed(file: Path) -> BinaryIO:
    """For reading. Raises OSError; reading raises DAMAGED as well."""
    return cast("BinaryIO", zstd.open(file))


def compress_into(source: BinaryIO, target: BinaryIO, level: int = zstd.COMPRESSION_LEVEL_DEFAULT) -> None:
    options = {**OPTIONS, zstd.CompressionParameter.compression_level: level}
    with zstd.open(target, "wb", options=options) as stream:
        shutil.copyfileobj(source, cast("BinaryIO", stream), 1024**2)
