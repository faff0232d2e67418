"""The organisation file is the truth about roles; the table follows it."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from psycopg import AsyncConnection

from echo_core.organisation import Organisation
from echo_core.storage.queries import query


async def sync_roles(connection: AsyncConnection[Any], organisation: Organisation, active: Set[str] | None) -> None:
    """Insert, update and retire roles. `active` is the roster, or None to leave each role as active as it is.

    A role whose agents report from another machine is active whatever the roster of this one. A role that left the file
    becomes inactive: what it said stays on record. System roles are never touched.
    """
    async with connection.transaction():
        if active is not None:
            reporting = await (await connection.execute(query("reporting_roles"))).fetchall()
            active = {*active, *(row["role"] if isinstance(row, dict) else row[0] for row in reporting)}
        for role in organisation.roles.values():
            await connection.execute(
                query("upsert_role"),
                {
                    "role": role.role,
                    "title": role.title,
                    "leadership": role.leadership,
                    "reports_to": role.reports_to,
                    "authority_limit_usd": role.authority_limit_usd,
                    "active": None if active is None else role.role in active,
                },
            )
        await connection.execute(query("retire_roles"), {"roles": list(organisation.roles)})
