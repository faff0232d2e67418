"""Brings a database to the current schema, however many processes start at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from echo_core.storage.queries import sql_dir

LOCK = 0x4543484F  # "ECHO": one process at a time changes the schema

_GRANTS = """
GRANT USAGE ON SCHEMA public TO echo;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO echo;
GRANT INSERT ON ALL TABLES IN SCHEMA public TO echo;
REVOKE INSERT ON schema_version FROM echo;
GRANT UPDATE ON roles, deliveries, decisions, phases, participations, decision_votes, agent_status, memories TO echo;
GRANT UPDATE ON llm_calls TO echo;
GRANT DELETE ON agent_status, memories TO echo;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO echo;
"""


def migrations() -> list[tuple[int, Path]]:
    """`sql/migrations/002_what_it_does.sql` brings version 1 to 2."""
    found = [(int(m.group(1)), p) for p in (sql_dir() / "migrations").glob("*.sql") if (m := re.match(r"(\d+)_", p.name))]
    return sorted(found)


def current_version() -> int:
    text = (sql_dir() / "schema.sql").read_text(encoding="utf-8")
    return int(re.findall(r"INSERT INTO schema_version \(version\) VALUES \((\d+)\)", text)[-1])


async def ensure_schema(connection: AsyncConnection[Any]) -> None:
    """Nothing to do, and no rights needed, when the schema is current. Raises psycopg errors when it can't be made so."""
    if await _version(connection) == current_version():
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        version = await _version(connection)
        if version is None:
            await connection.execute((sql_dir() / "schema.sql").read_bytes())
            return
        for number, path in migrations():
            if number > version:
                await connection.execute(path.read_bytes())
                await connection.execute("INSERT INTO schema_version (version) VALUES (%s)", (number,))


async def grant_application_user(connection: AsyncConnection[Any]) -> None:
    """The user `echo` of the embedded database may do its work, and can neither change nor delete the audit trail."""
    await connection.execute(_GRANTS.encode())


async def _version(connection: AsyncConnection[Any]) -> int | None:
    # A query on the catalogue, not to_regclass(): that may answer from a cache older than the lock just taken.
    row = await (
        await connection.execute(
            "SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'schema_version' AND schemaname = current_schema())"
            " AS made"
        )
    ).fetchone()
    if not row or not (row["made"] if isinstance(row, dict) else row[0]):
        return None
    row = await (await connection.execute("SELECT max(version) AS version FROM schema_version")).fetchone()
    return (row["version"] if isinstance(row, dict) else row[0]) if row else None
