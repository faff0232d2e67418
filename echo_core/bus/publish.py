"""Sending: first the database, and only when that is committed the announcement."""

from __future__ import annotations

import json

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message, announcement_channel
from echo_core.storage.database import Connection, Database
from echo_core.storage.queries import query

ANNOUNCED_BYTES = 200 * 1024  # a larger announcement leaves the content out: receivers read the database anyway


async def insert_message(connection: Connection, message: Message) -> Message:
    """Store `message` inside the caller's transaction; a second time it only finds it. Returns it with its id."""
    cursor = await connection.execute(query("insert_message"), _parameters(message))
    row = await cursor.fetchone()
    if row is None:
        return await _found(connection, message)
    return message.stored(row["id"], row["inserted_at"], row["decision_id"])


async def publish(database: Database, announcements: Announcements | None, message: Message) -> Message:
    """Store, then announce. Raises UnknownRole or InvalidMessage when refused.

    Raises DatabaseUnavailable when it is not known whether it is stored: publish the same message again (`send` does),
    its uid makes that harmless.
    """
    stored = await _store(database, message)
    await announce(announcements, stored)
    return stored


async def announce(announcements: Announcements | None, message: Message) -> bool:
    """Tell whoever listens that `message` is stored; False when Redis can't be reached, which loses nothing."""
    if announcements is None:
        return False
    payload = message.payload()
    if message.content and len(json.dumps(message.content)) > ANNOUNCED_BYTES:
        payload["content"] = {}
        payload["metadata"]["content_omitted"] = True
    return await announcements.publish(announcement_channel(message.to_role), payload)


async def _store(database: Database, message: Message) -> Message:
    if not database.durable:
        async with database.transaction(durable=True) as connection:
            return await insert_message(connection, message)
    async with database.session() as connection:  # one statement is its own transaction
        try:
            row = await (await connection.execute(query("send_message"), _parameters(message))).fetchone()
        except UniqueViolation:
            return await _found(connection, message)
        assert row is not None, "an INSERT that returns gives a row"
        return message.stored(row["id"], row["inserted_at"], row["decision_id"])


async def _found(connection: Connection, message: Message) -> Message:
    """What an earlier sending of the same message stored."""
    row = await (await connection.execute(query("message_by_uid"), {"uid": message.uid})).fetchone()
    assert row is not None, "a uid that conflicts is there"
    return Message.from_row(row)


def _parameters(message: Message) -> dict[str, object]:
    return {
        "uid": message.uid,
        "from_role": message.from_role,
        "to_role": message.to_role,
        "type": message.type,
        "subject": message.subject,
        "content": Jsonb(message.content),
        "metadata": Jsonb(message.metadata),
        "decision_id": message.decision_id,
        "in_reply_to": message.in_reply_to,
    }
