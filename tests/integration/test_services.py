"""The embedded servers: real, private, found again, and kept apart."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import psycopg

from echo_core.services import EmbeddedServers
from echo_core.settings import Settings
from tests.support.servers import remove_data_dir


def _servers(folder: Path) -> EmbeddedServers:
    return EmbeddedServers(Settings.load(data_dir=folder, environ={}), fsync=False)


async def test_data_survives_a_restart_and_a_second_starter_adopts_what_runs(data_dir: Path) -> None:
    first = _servers(data_dir)
    await first.start()
    try:
        async with await psycopg.AsyncConnection.connect(first.admin_url, autocommit=True) as admin:
            await admin.execute("INSERT INTO memories (key, content) VALUES ('k', 'kept')")
        pid = first.postgres_pid()
        adopter = _servers(data_dir)
        await adopter.start()
        assert adopter.postgres_pid() == pid
        await adopter.stop()
        assert first.postgres_pid() is None
        assert first.valkey_pid() is None
        await adopter.start()
        async with await psycopg.AsyncConnection.connect(adopter.database_url) as connection:
            row = await (await connection.execute("SELECT content FROM memories")).fetchone()
        assert row == ("kept",)
    finally:
        await _servers(data_dir).stop()


async def test_the_servers_are_private_and_open_no_port(data_dir: Path) -> None:
    servers = _servers(data_dir)
    await servers.start()
    try:
        for pid in (servers.postgres_pid(), servers.valkey_pid()):
            process = psutil.Process(pid)
            assert process.uids().real != 0
            assert process.net_connections(kind="inet") == []
        for folder in (data_dir, servers.postgres.home.folder, servers.postgres.home.postgres_data):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        if os.getuid() == 0:
            assert (data_dir / "servers").readlink() == servers.postgres.home.folder
    finally:
        await servers.stop()


async def test_a_server_that_was_killed_comes_back_with_ensure(data_dir: Path) -> None:
    servers = _servers(data_dir)
    await servers.start()
    try:
        before = servers.valkey_pid()
        assert before is not None
        os.kill(before, 9)
        psutil.wait_procs([psutil.Process(before)] if psutil.pid_exists(before) else [], timeout=5)
        await servers.ensure("valkey")
        assert servers.valkey_pid() not in (None, before)
    finally:
        await servers.stop()


async def test_long_paths_work_and_two_data_directories_do_not_meet(data_dir: Path) -> None:
    long, other = data_dir / ("long" * 30) / "data", data_dir / "other"
    one, two = _servers(long), _servers(other)
    try:
        await one.start()
        await two.start()
        assert one.postgres_pid() != two.postgres_pid()
        async with await psycopg.AsyncConnection.connect(one.database_url) as connection:
            assert (await (await connection.execute("SELECT current_user")).fetchone()) == ("echo",)
    finally:
        await one.stop()
        await two.stop()
        for folder in (long, other):
            remove_data_dir(folder)


async def test_a_pid_that_became_another_s_server_is_neither_adopted_nor_ended(data_dir: Path) -> None:
    """As after a restart of the machine, when pids are given out from the beginning again."""
    one, two = _servers(data_dir / "one"), _servers(data_dir / "two")
    try:
        await one.start()
        await two.start()
        theirs = (one.postgres_pid(), one.valkey_pid())
        await two.stop()
        for source, target in (
            (one.postgres.home.postgres_data / "postmaster.pid", two.postgres.home.postgres_data / "postmaster.pid"),
            (one.valkey.home.valkey_data / "valkey.pid", two.valkey.home.valkey_data / "valkey.pid"),
        ):
            target.write_text(source.read_text())
        assert (two.postgres_pid(), two.valkey_pid()) == (None, None)
        await two.stop()
        assert (one.postgres_pid(), one.valkey_pid()) == theirs
    finally:
        await one.stop()
        await two.stop()
        for folder in (data_dir / "one", data_dir / "two"):
            remove_data_dir(folder)
