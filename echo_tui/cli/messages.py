"""Commands about messages: send one, list them, look after dead letters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import GROUPS, MESSAGE_TYPES, Message
from echo_core.bus.outbox import Outbox
from echo_core.bus.outbox import send as send_or_hold
from echo_core.errors import UnknownRole, UsageError
from echo_core.organisation import load_organisation
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_tui.cli import options
from echo_tui.cli.output import local_time, progress, say, say_json, say_table
from echo_tui.cli.session import database, run_async
from echo_tui.cli.text_input import body_from


def send(
    settings: Settings,
    to: Annotated[str, typer.Option("--to", metavar="WHOM", help="all, leadership or a role.")],
    subject: Annotated[str, typer.Option("--subject", metavar="S", help="What it is about.")],
    type: Annotated[str, typer.Option("--type", metavar="T", help=", ".join(MESSAGE_TYPES) + ".")] = "request",
    body: Annotated[str, typer.Option("--body", metavar="B", help="The text; - reads standard input.")] = "",
    sender: Annotated[str, typer.Option("--from", metavar="ROLE", help="Who says it.")] = "operator",
    json: options.Json = False,
) -> int:
    """Send one message. Without PostgreSQL it is held and goes out when PostgreSQL is back."""
    if not settings.database_url:  # somebody else's database may know other roles, and refuses unknown ones itself
        _known(settings, to, (*GROUPS, "operator", "conductor"), ". Nothing was sent")
        _known(settings, sender, ("operator",), ". Nothing was sent")
    message = Message.compose(sender, to, type, subject, body_from(body))
    settings.prepare()
    return run_async(_send(settings, message, json))


def _known(settings: Settings, name: str, besides: tuple[str, ...], then: str = "") -> None:
    """Raises UnknownRole, naming the choices."""
    roles = load_organisation(settings.organisation).roles
    if name not in besides and name not in roles:
        raise UnknownRole(f"no role {name!r}; use one of: {', '.join([*besides, *roles])}{then}")


async def _send(settings: Settings, message: Message, as_json: bool) -> int:
    urls = resolve_urls(settings)
    postgres = Database(urls.database_url, name="command line")
    announcements = Announcements(urls.redis_url, name="command line")
    try:
        sent = await send_or_hold(postgres, announcements, Outbox(settings.outbox_dir), message)
        owed = [] if sent.held else await postgres.fetch_all("deliveries_of", {"ids": [sent.message.id]})
        played = {row["role"] for row in await postgres.fetch_all("active_roles")} if owed else set()
    finally:
        await announcements.close()
        await postgres.close()
    if as_json:
        value = {"id": sent.message.id, "uid": sent.message.uid, "decision_id": sent.message.decision_id}
        say_json({**value, "held": sent.held, "recipients": [row["role"] for row in owed]})
    elif sent.held:
        say("held in the outbox: PostgreSQL can't be reached; it goes out, once, when it is back (`echo-tui up`)")
    else:
        agents = f"{len(owed)} agent{'' if len(owed) == 1 else 's'}" if message.to_role in GROUPS else message.to_role
        say(f"#{sent.message.id} to {agents}")
        if message.to_role not in (*GROUPS, "operator", "conductor", *played):
            progress(f"nobody plays {message.to_role} now: it waits until somebody does (--roster {message.to_role})")
    return 0


def messages(
    settings: Settings,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that could not be handled.")] = False,
    retry: Annotated[str, typer.Option("--retry", metavar="ID|all", help="Deliver a dead letter again.")] = "",
    to: Annotated[str, typer.Option("--to", metavar="ROLE", help="Only to this recipient.")] = "",
    sender: Annotated[str, typer.Option("--from", metavar="ROLE", help="Only from this role.")] = "",
    decision: Annotated[str, typer.Option("--decision", metavar="ID", help="Only of this decision.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="The last N (50).", min=1, max=10_000)] = 50,
    json: options.Json = False,
) -> int:
    """The messages on record, oldest of the last N first, with the state of each delivery."""
    number = retry.lstrip("#")
    if retry and retry != "all" and not (number.isascii() and number.isdigit() and len(number) < 19):
        raise UsageError(f"--retry takes the number of a message, or all; not {retry!r}")
    if retry:
        return run_async(_retry(settings, None if retry == "all" else int(number), json))
    if not settings.database_url:
        for name in filter(None, (to, sender)):
            _known(settings, name, (*GROUPS, "operator", "conductor"))
    wanted = {"to": to or None, "sender": sender or None, "dead": dead, "limit": limit}
    return run_async(_messages(settings, wanted, decision, json))


async def _retry(settings: Settings, number: int | None, as_json: bool) -> int:
    async with database(settings) as postgres:
        letters = await postgres.fetch_all("messages_dead")
        numbers = sorted({row["id"] for row in letters if number in (None, row["id"])})
        if number is not None and not numbers:
            raise UsageError(f"#{number} has no dead letter; `echo-tui messages --dead` lists them")
        again = [
            row for each in numbers for row in await postgres.fetch_all("retry_dead", {"message_id": each, "role": None})
        ]
    if as_json:
        say_json([{"id": row["message_id"], "role": row["role"]} for row in again])
    elif not again:
        say("no dead letters")
    for row in [] if as_json else again:
        say(f"#{row['message_id']} to {row['role']}: to be delivered again")
    return 0


async def _messages(settings: Settings, wanted: dict[str, Any], decision: str, as_json: bool) -> int:
    from echo_core.workflow.ledger import find_decision

    async with database(settings) as postgres:
        identity = await find_decision(postgres, decision) if decision else None
        rows = await postgres.fetch_all("messages_listed", {**wanted, "decision_id": identity})
        owed = await postgres.fetch_all("deliveries_of", {"ids": [row["id"] for row in rows]})
    deliveries: dict[int, list[dict[str, Any]]] = {}
    for row in owed:
        deliveries.setdefault(row.pop("message_id"), []).append(row)
    found = [(Message.from_row(row), deliveries.get(row["id"], [])) for row in reversed(rows)]
    if as_json:
        say_json([_value(message, states) for message, states in found])
    elif not found:
        say("no dead letters" if wanted["dead"] else "no messages yet; `echo-tui run` or `echo-tui send` makes some")
    else:
        heads = ["time", "id", "from", "to", "type", "deliveries", "subject"]
        say_table(heads, [_row(message, states) for message, states in found])
        if wanted["dead"]:
            say()
            say_table(
                ["id", "role", "attempts", "error"],
                [
                    [f"#{message.id}", state["role"], state["attempts"], state["error"]]
                    for message, states in found
                    for state in states
                    if state["state"] == "dead"
                ],
            )
    return 0


def _value(message: Message, states: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": message.id,
        "uid": message.uid,
        "from": message.from_role,
        "to": message.to_role,
        "type": message.type,
        "subject": message.subject,
        "content": message.content,
        "decision_id": message.decision_id,
        "in_reply_to": message.in_reply_to,
        "inserted_at": message.inserted_at,
        "deliveries": states,
    }


def _row(message: Message, states: list[dict[str, Any]]) -> list[Any]:
    counts: dict[str, int] = {}
    for state in states:
        counts[state["state"]] = counts.get(state["state"], 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    at = local_time(message.inserted_at)
    return [at, f"#{message.id}", message.from_role, message.to_role, message.type, told, message.subject]
