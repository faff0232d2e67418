"""What the database itself guarantees, to anybody who types SQL."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from echo_core.services import EmbeddedServers
from echo_core.settings import DEFAULT_ROSTER
from echo_core.storage.migrations import ensure_schema

_INSERT = "INSERT INTO messages (from_role,to_role,type,subject,content) VALUES (%s,%s,%s,'Subject','{}') RETURNING id"


async def _recipients(connection: psycopg.AsyncConnection, sender: str, recipient: str, kind: str) -> set[str]:
    row = await (await connection.execute(_INSERT, (sender, recipient, kind))).fetchone()
    assert row is not None
    found = await (await connection.execute("SELECT role FROM deliveries WHERE message_id = %s", row)).fetchall()
    return {role for (role,) in found}


async def test_each_recipient_but_the_sender_is_owed_its_own_delivery(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        assert await _recipients(connection, "operator", "all", "notification") == set(DEFAULT_ROSTER)
        assert await _recipients(connection, "ceo", "all", "notification") == set(DEFAULT_ROSTER) - {"ceo"}
        leaders = await _recipients(connection, "operator", "leadership", "notification")
        assert leaders
        assert leaders < set(DEFAULT_ROSTER)
        assert await _recipients(connection, "cto", "operator", "response") == {"operator"}
        assert await _recipients(connection, "operator", "test_lead", "request") == {"test_lead"}


async def test_an_unknown_recipient_is_refused_with_a_hint(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.DatabaseError, match='unknown recipient "nobody_here"') as caught:
            await connection.execute(_INSERT, ("operator", "nobody_here", "request"))
        assert "product_manager" in (caught.value.diag.message_hint or "")


async def test_a_request_to_all_opens_one_decision_also_when_it_is_sent_twice(database_url: str) -> None:
    uid = uuid4()
    statement = (
        "INSERT INTO messages (uid,from_role,to_role,type,subject,content) VALUES (%s,'operator','all','request','Q','{}')"
        " ON CONFLICT (uid) DO NOTHING"
    )
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(statement, (uid,))
        await connection.execute(statement, (uid,))
        rows = await (await connection.execute("SELECT status, phase FROM decisions")).fetchall()
        assert rows == [("pending", 1)]
        assert await (await connection.execute("SELECT count(*) FROM phases WHERE state = 'pending'")).fetchone() == (6,)


@pytest.mark.parametrize(
    "statement", ["UPDATE messages SET subject = 'x'", "DELETE FROM messages", "TRUNCATE messages CASCADE"]
)
async def test_messages_cannot_be_changed_by_the_application_nor_by_the_owner(
    database_url: str, admin_url: str, statement: str
) -> None:
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as owner:
        await owner.execute(_INSERT, ("operator", "cto", "notification"))
        with pytest.raises(psycopg.DatabaseError, match="audit trail"):
            await owner.execute(statement)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as application:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await application.execute(statement)


async def test_seven_processes_may_make_the_schema_at_once(servers: EmbeddedServers) -> None:
    name = "seven"
    async with await psycopg.AsyncConnection.connect(
        servers.postgres.url("postgres", "postgres"), autocommit=True
    ) as server:
        await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

        async def one() -> None:
            url = servers.postgres.url("postgres", name)
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as connection:
                await ensure_schema(connection)
                row = await (await connection.execute("SELECT count(*) AS n FROM schema_version")).fetchone()
                assert row == {"n": 1}

        await asyncio.gather(*(one() for _ in range(7)))
        await server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
