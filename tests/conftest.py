"""Real servers, started once; a fresh database for each test, copied from a template in milliseconds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from echo_core.bus.announcements import Announcements
from echo_core.organisation import Organisation, load_organisation
from echo_core.services import EmbeddedServers
from echo_core.settings import DEFAULT_ROSTER, Settings
from echo_core.storage.database import Database
from echo_core.storage.migrations import ensure_schema, grant_application_user
from echo_core.storage.roles import sync_roles
from tests.support.ollama_process import OllamaProcess
from tests.support.servers import new_data_dir, remove_data_dir

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def organisation() -> Organisation:
    return load_organisation(None)


@pytest.fixture(scope="session")
def servers(organisation: Organisation) -> Iterator[EmbeddedServers]:
    data_dir = new_data_dir()
    embedded = EmbeddedServers(Settings.load(data_dir=data_dir, environ={}), fsync=False)

    async def prepare() -> None:
        await embedded.start()
        async with await psycopg.AsyncConnection.connect(
            embedded.postgres.url("postgres", "postgres"), autocommit=True
        ) as server:
            await server.execute("CREATE DATABASE echo_template")
        url = embedded.postgres.url("postgres", "echo_template")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as template:
            await ensure_schema(template)
            await sync_roles(template, organisation, set(DEFAULT_ROSTER))
            await grant_application_user(template)

    try:
        asyncio.run(prepare())
        yield embedded
    finally:
        asyncio.run(embedded.stop())
        remove_data_dir(data_dir)


@pytest.fixture
async def database_name(servers: EmbeddedServers) -> AsyncIterator[str]:
    name = f"t_{next(_numbers)}"
    async with await psycopg.AsyncConnection.connect(
        servers.postgres.url("postgres", "postgres"), autocommit=True
    ) as server:
        await server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE echo_template").format(sql.Identifier(name)))
        yield name
        await server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(servers: EmbeddedServers, database_name: str) -> str:
    """As the application's user, who has no right to change messages."""
    return servers.postgres.url("echo", database_name)


@pytest.fixture
def admin_url(servers: EmbeddedServers, database_name: str) -> str:
    return servers.postgres.url("postgres", database_name)


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    return servers.redis_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, name="test")
    yield database
    await database.close()


@pytest.fixture
async def announcements(redis_url: str) -> AsyncIterator[Announcements]:
    announcements = Announcements(redis_url, name="test")
    yield announcements
    await announcements.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = new_data_dir()
    yield folder
    remove_data_dir(folder)


@pytest.fixture
def settings(data_dir: Path, database_url: str, redis_url: str) -> Settings:
    loaded = Settings.load(data_dir=data_dir, database_url=database_url, redis_url=redis_url, delay=0, environ={})
    loaded.prepare()
    return replace(loaded, llm="off")


@pytest.fixture(scope="session")
def ollama_process() -> Iterator[OllamaProcess]:
    process = OllamaProcess()
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def ollama_server(ollama_process: OllamaProcess) -> OllamaProcess:
    """A stand-in for Ollama with one small model, `llama3.2`, not loaded; its faults are scripted by the test."""
    if not ollama_process.running:
        ollama_process.start()
    await ollama_process.script(models={"llama3.2": ["completion"]}, load_seconds=0)
    return ollama_process
