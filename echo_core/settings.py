"""Where this process finds its organisation, its servers and its files: options first, then the environment."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from echo_core.errors import DataDirectoryError, UsageError

DEFAULT_ROSTER = ("ceo", "cto", "chro", "product_manager", "senior_architect", "operations_head")
DEFAULT_OLLAMA = "http://127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class Settings:
    """`database_url` and `redis_url` empty: the embedded servers of the data directory are used.

    `roster` holds roles in launch order; `cto*3` means three instances. `delay_seconds` stands between two launches.
    """

    data_dir: Path
    database_url: str = ""
    redis_url: str = ""
    ollama_host: str = DEFAULT_OLLAMA
    llm: str = "auto"  # auto, ollama or off
    model: str = ""  # for every role, before the organisation's preference
    organisation: Path | None = None
    roster: tuple[str, ...] = DEFAULT_ROSTER
    delay_seconds: float = 2.0
    grace_seconds: float = 10.0  # between SIGTERM and SIGKILL

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def outbox_dir(self) -> Path:
        return self.data_dir / "outbox"

    @property
    def embedded(self) -> bool:
        return not (self.database_url and self.redis_url)

    def environment(self) -> dict[str, str]:
        """What a child process needs to arrive at the same settings."""
        values = {
            "ECHO_DATA_DIR": str(self.data_dir),
            "ECHO_DATABASE_URL": self.database_url,
            "ECHO_REDIS_URL": self.redis_url,
            "OLLAMA_HOST": self.ollama_host,
            "ECHO_LLM": self.llm,
            "ECHO_MODEL": self.model,
            "ECHO_ORGANISATION": str(self.organisation or ""),
        }
        return {name: value for name, value in values.items() if value}

    def with_urls(self, database_url: str, redis_url: str) -> Settings:
        return replace(self, database_url=database_url, redis_url=redis_url)

    @classmethod
    def load(
        cls,
        *,
        data_dir: str | Path | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        ollama_host: str | None = None,
        roster: str | None = None,
        delay: float | None = None,
        organisation: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Raises UsageError with one line that says what to correct."""
        directory = Path(data_dir or environ.get("ECHO_DATA_DIR") or _default_data_dir()).expanduser().absolute()
        llm = (environ.get("ECHO_LLM") or "auto").lower()
        if llm not in ("auto", "ollama", "off"):
            raise UsageError(f"ECHO_LLM is {llm!r}; use auto, ollama or off")
        if delay is not None and not 0 <= delay <= 600:
            raise UsageError("--delay takes seconds from 0 to 600")
        organisation = organisation or environ.get("ECHO_ORGANISATION") or None
        return cls(
            data_dir=directory,
            database_url=_checked_url(
                database_url or environ.get("ECHO_DATABASE_URL", ""), ("postgresql", "postgres"), "--database-url"
            ),
            redis_url=_checked_url(
                redis_url or environ.get("ECHO_REDIS_URL", ""), ("redis", "rediss", "unix"), "--redis-url"
            ),
            ollama_host=ollama_host or environ.get("OLLAMA_HOST") or DEFAULT_OLLAMA,
            llm=llm,
            model=environ.get("ECHO_MODEL", ""),
            organisation=Path(organisation).expanduser().absolute() if organisation else None,
            roster=parse_roster(roster) if roster else DEFAULT_ROSTER,
            delay_seconds=2.0 if delay is None else delay,
        )

    def check_urls(self) -> None:
        """Ask the servers' own libraries whether they can read the URLs. Raises UsageError with their reason."""
        for option, url, check in (
            ("--database-url", self.database_url, _check_postgres),
            ("--redis-url", self.redis_url, _check_redis),
            ("--ollama-host", self.ollama_host, _check_ollama),
        ):
            if not url:
                continue
            try:
                check(url)
            except Exception as error:  # each library has its own root of errors; all of them mean the URL
                reason = " ".join(str(error).split())
                raise UsageError(f"{option}: {shown_url(url)!r} can't be used ({reason})") from error

    def check_data_dir(self) -> None:
        """Changes nothing. Raises DataDirectoryError when there is something else in its place, or it can't be entered."""
        try:
            mode = self.data_dir.stat().st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {self.data_dir} can't be used ({error.strerror}); choose another with --data-dir"
            ) from error
        if not stat.S_ISDIR(mode):
            raise DataDirectoryError(f"the data directory {self.data_dir} is a file; choose another with --data-dir")
        if not os.access(self.data_dir, os.R_OK | os.X_OK):
            raise DataDirectoryError(
                f"the data directory {self.data_dir} can't be entered (Permission denied); choose another with --data-dir"
            )

    def prepare(self) -> None:
        """Make the data directory and its folders, private to this user. Raises DataDirectoryError."""
        self.check_data_dir()
        try:
            for folder in (self.data_dir, self.logs_dir, self.run_dir, self.outbox_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder.stat().st_mode & 0o077:
                    folder.chmod(0o700)
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {self.data_dir} can't be used ({error.strerror}); choose another with --data-dir"
            ) from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise DataDirectoryError(f"the data directory {self.data_dir} is not writable; choose another with --data-dir")


def parse_roster(text: str) -> tuple[str, ...]:
    """`"cto*2,ceo"` -> `("cto", "cto", "ceo")`. Raises UsageError."""
    roles: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        role, star, count = part.partition("*")
        if not role or (star and not (count.isascii() and count.isdigit())):
            raise UsageError(f"--roster can't be read at {part!r}; write roles with commas, like ceo,cto*2")
        number = int(count or 1)
        if not 1 <= number <= 32:
            raise UsageError(f"--roster: {part!r} asks for {number} instances; 1 to 32 are possible")
        roles += [role] * number
    return tuple(roles)


def _default_data_dir() -> Path:
    from platformdirs import user_data_path

    return user_data_path("echo-control-room", appauthor=False)


def _checked_url(url: str, schemes: tuple[str, ...], option: str) -> str:
    """What can be seen without a server's own library, which would cost every start its import."""
    scheme, separator, _ = url.partition("://")
    if url and (scheme not in schemes or not separator):
        raise UsageError(f"{option}: a URL that begins with {schemes[0]}:// is needed, not {shown_url(url)!r}")
    return url


def _check_postgres(url: str) -> None:
    """Raises psycopg.Error or ValueError for what libpq would refuse, now or when it connects."""
    from psycopg.conninfo import conninfo_to_dict

    for port in str(conninfo_to_dict(url).get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{port!r} is no port; 1 to 65535 are possible")


def _check_redis(url: str) -> None:
    """Raises ValueError or RedisError for what redis-py would refuse."""
    from redis.asyncio.connection import ConnectionPool

    if urlsplit(url).scheme == "unix" and not urlsplit(url).path:
        raise ValueError("the path of the socket is missing")
    try:
        ConnectionPool.from_url(url).make_connection()
    except TypeError as error:  # parameters become keyword arguments there
        raise ValueError("it has a parameter that redis-py does not know") from error


def _check_ollama(url: str) -> None:
    """Raises ValueError. The scheme may be left out, as in Ollama's own OLLAMA_HOST."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https"):
        raise ValueError("it begins with http:// or https://")
    if parts.port == 0 or any(character.isspace() for character in url):
        raise ValueError("the host or port can't be read")


def shown_url(url: str) -> str:
    """A URL for a person's eyes and for logs: without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
