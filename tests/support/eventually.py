"""Waiting for something to become true, as short as possible."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(check: Callable[[], T | Awaitable[T]], timeout: float = 10.0, what: str = "") -> T:
    """Ask again until the answer is truthy, then return it. Raises AssertionError after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    wait = 0.01
    while True:
        answer = check()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer  # type: ignore[return-value]
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or inspect.getsource(check).strip()}")
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, 0.2)
