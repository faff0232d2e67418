"""What is said while PostgreSQL is away: held on disk, then sent once and in order."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.errors import DatabaseRefused, DatabaseUnavailable, EchoError
from echo_core.logs import Log
from echo_core.storage.database import Database

MAXIMUM_MESSAGES = 10_000
MAXIMUM_BYTES = 64 * 1024 * 1024  # more than a person says in a year, less than any disk misses
ABANDONED_SECONDS = 3600.0  # writing one takes milliseconds

_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # nothing is wrong with the file: later it can be read

_order = count()  # keeps the order of messages put within one tick of the clock


@dataclass(frozen=True, slots=True)
class Sent:
    """`held`: not stored yet, but safe on disk; `message` has no id then."""

    message: Message
    held: bool


class Outbox:
    """A folder with one file for each held message, named in the order they were put. Any process may put and drain."""

    def __init__(self, folder: Path, *, log: Log | None = None) -> None:
        self.folder = folder
        self.refused: dict[str, EchoError] = {}  # by uid: what the database did not want when its turn came
        self._log = log
        self._waiting_because = ""

    def put(self, message: Message) -> None:
        """Safe on disk when this returns. Raises EchoError when the outbox is full or the disk refuses."""
        data = json.dumps(message.to_json(), ensure_ascii=False).encode()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sizes = self._sizes()
            if len(sizes) >= MAXIMUM_MESSAGES or sum(sizes) + len(data) > MAXIMUM_BYTES:
                raise EchoError(
                    f"the outbox is full ({len(sizes):,} messages wait for PostgreSQL); nothing was sent. "
                    "`echo-tui doctor` shows why PostgreSQL can't be reached"
                )
            self._write(self._next_name(), data)
        except OSError as error:
            raise EchoError(
                f"PostgreSQL can't be reached and the message can't be held in {self.folder} ({error.strerror}); "
                "nothing was sent"
            ) from error

    def count(self) -> int:
        """How many messages are held."""
        return len(self._files())

    async def drain(self, database: Database, announcements: Announcements | None) -> int:
        """Send what is held, in order, until it is empty or PostgreSQL is away; returns how many went out.

        One process drains at a time (a lock the kernel releases); another that tries meanwhile sends nothing. A message
        that was stored before a crash could remove its file is recognised by its uid. Raises EchoError when the folder
        can't be used.
        """
        try:
            return await self._drain(database, announcements)
        except OSError as error:
            raise EchoError(f"the outbox {self.folder} can't be used ({error.strerror})") from error

    async def _drain(self, database: Database, announcements: Announcements | None) -> int:
        sent = 0
        if not self._files():
            return sent
        with self._drain_lock() as alone:
            if alone:
                self._sweep()
            while alone and (files := self._files()):
                for path in files:
                    message = self._read(path)
                    if message is None:
                        continue
                    try:
                        await publish(database, announcements, message)
                    except DatabaseUnavailable:
                        return sent
                    except EchoError as error:
                        if isinstance(error, DatabaseRefused) and error.passing:
                            self._say_waiting(str(error))
                            return sent
                        self.refused[message.uid] = error
                        self._set_aside(path, str(error))
                        continue
                    path.unlink(missing_ok=True)
                    self._waiting_because = ""
                    sent += 1
                    await asyncio.sleep(0)
        return sent

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []

    def _sizes(self) -> list[int]:
        """Of the held messages; one that another process sends at this moment is none any more."""
        sizes = []
        for path in self._files():
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return sizes

    def _next_name(self) -> str:
        """After every name there is, also when the wall clock went back."""
        files = self._files()
        last = int(files[-1].name.partition("-")[0]) if files and files[-1].name[:20].isdigit() else 0
        return f"{max(time.time_ns(), last + 1):020d}-{os.getpid()}-{next(_order):06d}.json"

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        temporary = path.with_suffix(".tmp")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read(self, path: Path) -> Message | None:
        try:
            return Message.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _SHORT_OF:
                raise
            self._set_aside(path, f"it can't be read: {error}")
            return None
        except (EchoError, ValueError, TypeError, KeyError, RecursionError) as error:
            self._set_aside(path, f"it can't be read: {error}")
            return None

    def _say_waiting(self, reason: str) -> None:
        if reason != self._waiting_because and self._log is not None:
            self._log.warn("outbox", f"held messages wait, because the database refused for now: {reason}")
        self._waiting_because = reason

    def _sweep(self) -> None:
        """Remove what writers left half done when they were killed: nobody was told that it is safe."""
        for path in self.folder.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(".bad")
        os.replace(path, aside)
        if self._log is not None:
            self._log.error("outbox", f"a held message was set aside as {aside.name}: {reason}")

    @contextmanager
    def _drain_lock(self) -> Iterator[bool]:
        file = os.open(self.folder / "drain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(file)


async def send(database: Database, announcements: Announcements | None, outbox: Outbox, message: Message) -> Sent:
    """Publish, or hold when PostgreSQL is away. Messages held before go out before this one.

    Raises UnknownRole or InvalidMessage when the database refuses it, EchoError when it can be neither stored nor held.
    """
    if outbox.count():
        outbox.put(message)
        await outbox.drain(database, announcements)
        if refusal := outbox.refused.pop(message.uid, None):
            raise refusal
        return await _settled(database, outbox, message)
    try:
        return Sent(await publish(database, announcements, message), held=False)
    except DatabaseUnavailable:
        outbox.put(message)
        return Sent(message, held=True)


async def _settled(database: Database, outbox: Outbox, message: Message) -> Sent:
    """Whether a message that queued behind others went out with them."""
    try:
        row = await database.fetch_one("message_by_uid", {"uid": message.uid})
    except DatabaseUnavailable:
        return Sent(message, held=True)
    if row is not None:
        return Sent(Message.from_row(row), held=False)
    return Sent(message, held=True)
