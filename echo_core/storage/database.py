"""One PostgreSQL connection that comes back by itself, shared in turn by everything in a process."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from echo_core.errors import DatabaseRefused, DatabaseUnavailable, InvalidMessage, UnknownRole
from echo_core.health.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from echo_core.storage.queries import query

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]

# Errors raised by our own triggers and constraints, told apart by SQLSTATE.
_REFUSALS = {"EC001": UnknownRole, "EC002": UnknownRole, "EC003": DatabaseRefused, "EC004": DatabaseRefused}

# The server's state, not the statement, is at fault: read-only, rolled back, no such database, schema or table (yet), no
# right to it, in use, told to stop, out of its own order. Source: PostgreSQL's appendix "Error Codes".
_PASSING = ("25", "28", "3D", "3F", "40", "42P01", "42501", "55", "57", "58", "F0", "XX")

# What the server does about a client that fell silent: one whose machine is gone is noticed within some ten seconds, and
# one that stops in the middle of a transaction does not keep its rows from the others for longer than a lease.
_GUARDS = (
    b"SET tcp_keepalives_idle TO 5; SET tcp_keepalives_interval TO 2; SET tcp_keepalives_count TO 3;"
    b"SET idle_in_transaction_session_timeout TO '15s';"
)
_LAZY = b"SET synchronous_commit TO off;"


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """Bounds on waiting, in seconds. A connection that says nothing for `statement_seconds` counts as lost."""

    connect_seconds: int = 3
    statement_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.connect_seconds < 1 or self.statement_seconds <= 0:
            raise ValueError(f"contradictory database limits: {self}")


class Database:
    """One connection, opened when first needed and again when lost; callers take turns.

    `session()` is for single statements (autocommit), `transaction()` for all-or-nothing. Both yield the psycopg
    connection and raise DatabaseUnavailable when PostgreSQL can't be reached (at once while the breaker is open), and
    UnknownRole, InvalidMessage or DatabaseRefused for what PostgreSQL refuses. `on_reachable(bool, detail)` is called
    once when the connection is lost and once when it is back. `durable=False` sets synchronous_commit off for the
    session: only for work that may be done again, such as a claim; see `transaction(durable=True)`.
    `on_connect` runs on each new connection before anybody else may use it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        durable: bool = True,
        limits: DatabaseLimits | None = None,
        breaker: CircuitBreaker | None = None,
        on_reachable: Callable[[bool, str], None] | None = None,
        on_connect: Callable[[Connection], Any] | None = None,
    ) -> None:
        self.url = url
        self.breaker = breaker or CircuitBreaker(BreakerPolicy(failures=1, open_seconds=0.5, maximum_open_seconds=2.0))
        self.reachable: bool | None = None
        self.durable = durable
        self._name = name
        self._limits = limits or DatabaseLimits()
        self._on_reachable = on_reachable
        self._on_connect = on_connect
        self._connection: Connection | None = None
        self._cut_reason = ""
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def session(self, *, timeout: float | None = None) -> AsyncIterator[Connection]:
        """The connection in autocommit mode. `timeout` in seconds replaces the limit for this turn."""
        async with self._lock:
            try:
                seconds = timeout or self._limits.statement_seconds
                connection = self._connection
                if connection is None or connection.closed:
                    async with asyncio.timeout(seconds):
                        connection = await self._connected()
                watchdog = asyncio.get_running_loop().call_later(seconds, self._cut, connection, seconds)
                try:
                    yield connection
                finally:
                    watchdog.cancel()
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, OSError) as error:
                if isinstance(error, psycopg.Error) and error.sqlstate and not _is_lost(error):
                    raise _refused(error, _one_line(error)) from error
                reason, self._cut_reason = self._cut_reason or _one_line(error), ""
                await self._lost(reason)
                raise DatabaseUnavailable(f"PostgreSQL can't be reached: {reason}") from error
            except psycopg.Error as error:
                if not _is_lost(error):
                    raise _refusal(error) from error
                await self._lost(_one_line(error))
                raise DatabaseUnavailable(f"PostgreSQL ended the connection: {_one_line(error)}") from error
            except asyncio.CancelledError:
                # A statement may be half way: the connection's state is unknown, so it is not used again.
                await self._drop()
                raise
            else:
                self.breaker.succeeded()

    @asynccontextmanager
    async def transaction(self, *, durable: bool | None = None, timeout: float | None = None) -> AsyncIterator[Connection]:
        """All or nothing. `durable=True` waits for the disk even where the session does not."""
        async with self.session(timeout=timeout) as connection, connection.transaction():
            if durable is not None and durable != self.durable:
                await connection.execute(f"SET LOCAL synchronous_commit TO {'on' if durable else 'off'}".encode())
            yield connection

    async def fetch_all(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        async with self.session() as connection:
            return await (await connection.execute(query(name), parameters)).fetchall()

    async def fetch_one(self, name: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        async with self.session() as connection:
            return await (await connection.execute(query(name), parameters)).fetchone()

    async def execute(self, name: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a named query for its effect; returns the number of rows touched."""
        async with self.session() as connection:
            return (await connection.execute(query(name), parameters)).rowcount

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _connected(self) -> Connection:
        if not self.breaker.allows():
            raise psycopg.OperationalError("not asked again yet")
        connection: Connection = await psycopg.AsyncConnection.connect(
            self.url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=self._limits.connect_seconds,
            application_name=f"echo {self._name}",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
        try:
            await connection.execute(_GUARDS if self.durable else _GUARDS + _LAZY)
            if self._on_connect is not None:
                await self._on_connect(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        if self.reachable is not True:
            self.reachable = True
            if self._on_reachable is not None:
                self._on_reachable(True, "")
        return connection

    def _cut(self, connection: Connection, seconds: float) -> None:
        """End a connection that says nothing. Cancelling it would first ask the hung server to cancel, and wait again."""
        if not connection.closed:
            self._cut_reason = f"no answer within {seconds:g} s"
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    async def _lost(self, reason: str) -> None:
        await self._drop()
        if self.breaker.state is not BreakerState.OPEN:
            self.breaker.failed(reason)
        if self.reachable is not False:
            self.reachable = False
            if self._on_reachable is not None:
                self._on_reachable(False, reason)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _is_lost(error: psycopg.Error) -> bool:
    """Class 57P (shutdown, crash), 08 (connection) and 53 (no room) mean the server is going, 25P03 (silent in a
    transaction) and 57P05 (silent) that it ended this connection; anything else is about the statement."""
    return (error.sqlstate or "").startswith(("57P", "08", "53", "25P03"))


def _refusal(error: psycopg.Error) -> Exception:
    text = error.diag.message_primary or _one_line(error)
    if error.diag.message_hint:
        text = f"{text}. {error.diag.message_hint}"
    if error.sqlstate in _REFUSALS:
        return _REFUSALS[error.sqlstate](text)
    if isinstance(error, psycopg.errors.CheckViolation) and (error.diag.constraint_name or "").startswith(
        ("message_", "decision_")
    ):
        return InvalidMessage(f"refused by {error.diag.constraint_name}: {text}")
    return _refused(error, text)


def _refused(error: psycopg.Error, text: str) -> DatabaseRefused:
    refusal = DatabaseRefused(text)
    refusal.passing = (error.sqlstate or "").startswith(_PASSING)
    return refusal


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
