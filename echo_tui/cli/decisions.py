"""Commands about decisions: list them, export one."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import typer

from echo_core.errors import EchoError, UsageError
from echo_core.organisation import load_organisation
from echo_core.settings import Settings
from echo_core.workflow.ledger import find_decision, list_decisions, load_decision
from echo_core.workflow.minutes import minutes, to_json
from echo_tui.cli import options
from echo_tui.cli.output import local_time, progress, say, say_json, say_table
from echo_tui.cli.session import database, run_async


def decisions(
    settings: Settings,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="The last N (50).", min=1, max=10_000)] = 50,
    json: options.Json = False,
) -> int:
    """The decisions on record, newest first."""
    return run_async(_decisions(settings, limit, json))


async def _decisions(settings: Settings, limit: int, as_json: bool) -> int:
    async with database(settings) as postgres:
        rows = await list_decisions(postgres, limit)
    if as_json:
        say_json(rows)
    elif not rows:
        say("no decision yet; `echo-tui run --subject ...` asks the organisation something")
    else:
        table = [
            [
                local_time(row["inserted_at"]),
                f"#{row['number']}",
                row["id"],
                row["status"],
                "" if row["status"] != "pending" else f"{row['phase']} of 6",
                "" if row["score"] is None else f"{row['score']:.2f}",
                row["subject"],
            ]
            for row in rows
        ]
        say_table(["time", "number", "id", "status", "phase", "score", "subject"], table)
    return 0


def export(
    settings: Settings,
    identity: Annotated[str, typer.Argument(metavar="ID", help="A decision's id, its beginning, or its number.")],
    format: Annotated[str, typer.Option("--format", metavar="md|json", help="Markdown or JSON.")] = "md",
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.")] = "",
    json: options.Json = False,
) -> int:
    """The minutes of a decision."""
    form = "json" if json else format
    if form not in ("md", "json"):
        raise UsageError(f"--format is {format!r}; use md or json")
    return run_async(_export(settings, identity, form, output))


async def _export(settings: Settings, text: str, form: str, output: str) -> int:
    organisation = load_organisation(settings.organisation)
    async with database(settings) as postgres:
        record = await load_decision(postgres, await find_decision(postgres, text))
    whole = json_format.dumps(to_json(record), indent=2) + "\n" if form == "json" else minutes(record, organisation)
    if not output:
        sys.stdout.write(whole)
        return 0
    path = Path(output).expanduser()
    try:
        path.write_text(whole, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise EchoError(f"{path} can't be written ({error.strerror}); choose another --output") from error
    progress(f"written to {path}")
    return 0
