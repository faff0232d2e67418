"""A body given as an option, or on standard input."""

from __future__ import annotations

import sys

from echo_core.bus.message import BODY_BYTES
from echo_core.errors import UsageError


def body_from(option: str) -> str:
    """`-` reads standard input, up to what a message may hold. Raises UsageError."""
    if option != "-":
        return option
    data = sys.stdin.buffer.read(BODY_BYTES + 1)
    if len(data) > BODY_BYTES:
        raise UsageError(f"the text on standard input is longer than {BODY_BYTES:,} bytes; nothing was sent")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the text on standard input is not UTF-8; nothing was sent") from error
