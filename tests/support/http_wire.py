"""HTTP/1.1 by hand, as Go's server frames it: small bodies with a length, streams one chunk for each line."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


async def read_request(reader: asyncio.StreamReader, before: bytes) -> tuple[str, str, bytes] | None:
    try:
        head = before + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, target.partition("?")[0], body


def respond(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str = "application/json; charset=utf-8",
    method: str = "GET",
) -> None:
    writer.write(_head(status, kind, f"Content-Length: {len(body)}") + (b"" if method == "HEAD" else body))


@contextlib.asynccontextmanager
async def stream(writer: asyncio.StreamWriter) -> AsyncIterator[Any]:
    """One HTTP chunk for each line; the head leaves with the first."""
    begun = False

    async def send(value: Any) -> None:
        nonlocal begun
        if not begun:
            writer.write(_head(200, "application/x-ndjson", "Transfer-Encoding: chunked"))
            begun = True
        line = (value.encode() if isinstance(value, str) else as_json(value)) + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        await writer.drain()

    yield send
    if not begun:
        writer.write(_head(200, "application/x-ndjson", "Transfer-Encoding: chunked"))
    writer.write(b"0\r\n\r\n")


def _head(status: int, kind: str, length: str) -> bytes:
    reason = _REASONS.get(status, "Service Unavailable")
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nDate: {date}\r\n{length}\r\n\r\n".encode()


def as_json(value: Any) -> bytes:
    """As Go writes it: compact, and safe inside HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace")
