"""Redis: fast hints that something is stored. Losing every one of them loses nothing."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from echo_core.health.breaker import BreakerPolicy, BreakerState, CircuitBreaker

PING_SECONDS = 2.0  # a connection silent for this long is asked whether it lives
PONG_SECONDS = 2.0  # a server on the same machine or network that takes longer is hung
CONNECT_SECONDS = 2.0
RETRY_SECONDS = 0.1  # the first wait before connecting again, doubling
MAXIMUM_RETRY_SECONDS = 2.0  # a server that comes back is noticed within this

_FAILURES = (RedisError, OSError, TimeoutError, ValueError)


class Announcements:
    """Publishes and listens on channels, and comes back by itself after any failure.

    `on_reachable(bool, detail)` is told once when Redis is lost and once when it is back. `reachable` is None until known.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        breaker: CircuitBreaker | None = None,
        on_reachable: Callable[[bool, str], None] | None = None,
    ) -> None:
        self.url = url
        self.breaker = breaker or CircuitBreaker(BreakerPolicy(failures=1, open_seconds=0.5, maximum_open_seconds=2.0))
        self.reachable: bool | None = None
        self._name = name
        self._on_reachable = on_reachable
        self._publisher: redis.Redis | None = None
        self._listening = 0

    async def publish(self, channel: str, payload: dict[str, Any]) -> bool:
        """Announce; False when Redis can't be reached (at once while the breaker is open). Never raises for it."""
        if not self.breaker.allows():
            return False
        try:
            if self._publisher is None:
                self._publisher = self._client()
            await self._publisher.publish(channel, json.dumps(payload, ensure_ascii=False, separators=(",", ":")))
        except _FAILURES as error:
            self._lost(error)
            return False
        except asyncio.CancelledError:
            if self.breaker.state is BreakerState.HALF_OPEN:
                self.breaker.failed("cancelled while probing")
            raise
        self.breaker.succeeded()
        if not self._listening:
            self._back()
        return True

    async def listen(
        self,
        channels: Sequence[str],
        on_payload: Callable[[str, bytes], None],
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        """Hear `channels` until cancelled. `on_connected` is called after each (re)subscription: time to catch up."""
        wait = RETRY_SECONDS
        self._listening += 1
        try:
            while True:
                try:
                    client = self._client()
                    try:
                        pubsub = client.pubsub()
                        await pubsub.subscribe(*channels)
                        wait = RETRY_SECONDS
                        await self._hear(pubsub, len(channels), on_payload, on_connected)
                    finally:
                        await _close(client)
                except _FAILURES as error:
                    self._lost(error)
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(wait * 2, MAXIMUM_RETRY_SECONDS)
        finally:
            self._listening -= 1

    async def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await _close(publisher)

    async def _hear(
        self,
        pubsub: Any,
        subscriptions: int,
        on_payload: Callable[[str, bytes], None],
        on_connected: Callable[[], None] | None,
    ) -> None:
        """Read until the connection fails, or until the server leaves a ping unanswered."""
        asked = True  # the answer to the subscription is awaited like a pong
        while True:
            message = await pubsub.get_message(timeout=PONG_SECONDS if asked else PING_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError(f"no answer within {PONG_SECONDS:g} s")
                async with asyncio.timeout(PONG_SECONDS):  # wait_for could swallow a cancellation that meets the answer
                    await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                on_payload(message["channel"].decode("utf-8", "replace"), message["data"])
            elif message["type"] == "subscribe":
                subscriptions -= 1
                asked = subscriptions > 0
                if subscriptions == 0:
                    self.breaker.succeeded()
                    self._back()
                    if on_connected is not None:
                        on_connected()
            elif self.breaker.state is BreakerState.CLOSED:
                self._back()

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.url,
            protocol=2,
            socket_timeout=PONG_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="echo-" + "-".join(self._name.split()),  # Redis takes no blanks
            driver_info=None,
        )

    def _back(self) -> None:
        if self.reachable is not True:
            self.reachable = True
            if self._on_reachable is not None:
                self._on_reachable(True, "")

    def _lost(self, error: BaseException) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        if self.breaker.state is not BreakerState.OPEN:
            self.breaker.failed(reason)
        if self.reachable is not False:
            self.reachable = False
            if self._on_reachable is not None:
                self._on_reachable(False, reason)


async def _close(client: redis.Redis) -> None:
    try:
        async with asyncio.timeout(1.0):
            await client.aclose()
    except _FAILURES:
        # The connection is being given up: a server that can't take our goodbye changes nothing.
        return
