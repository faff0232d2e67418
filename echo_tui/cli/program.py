"""The commands put together, and the command-line library's own errors turned into one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from echo_core import __version__
from echo_core.errors import UsageError
from echo_core.text import inert
from echo_tui.cli import decisions, doctor, logs, messages, options, organisation, run

app = typer.Typer(
    name="echo-tui",
    help="A control room for an organisation of AI agents. Without a command: the control room itself.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 escalated to a person, 4 out of time.",
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def control_room(
    context: typer.Context,
    data_dir: options.DataDir = None,
    database_url: options.DatabaseUrl = None,
    redis_url: options.RedisUrl = None,
    ollama_host: options.OllamaHost = None,
    roster: options.Roster = None,
    delay: options.Delay = None,
    organisation: options.OrganisationFile = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"echo-tui {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        raise UsageError("no command given; see `echo-tui --help`")
    context.obj = {name: value for name in options.COMMON if (value := context.params.get(name)) is not None}


app.command("up", short_help="Start everything in the background; return when it is healthy.")(
    options.with_settings(organisation.up)
)
app.command("run", short_help="Take one question through all six phases.")(options.with_settings(run.run))
app.command("send", short_help="Send one message.")(options.with_settings(messages.send))
app.command("status", short_help="What runs, and where its servers are reached.")(options.with_settings(organisation.status))
app.command("doctor")(options.with_settings(doctor.doctor, check_data_dir=False))  # it tells what is wrong with it
app.command("logs")(options.with_settings(logs.logs))
app.command("messages", short_help="The messages on record; dead letters.")(options.with_settings(messages.messages))
app.command("decisions")(options.with_settings(decisions.decisions))
app.command("export")(options.with_settings(decisions.export))
app.command("stop", short_help="End everything that runs in the data directory.")(options.with_settings(organisation.stop))


def program(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    try:
        code = app(list(arguments), prog_name="echo-tui", standalone_mode=False)
    except (typer.Exit, typer.Abort) as left:
        return int(getattr(left, "exit_code", 1))
    except Exception as error:
        # The library's own errors have a one-line form; their class has moved between its versions.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "echo-tui"
        said = error.format_message().rstrip(".?")
        print(f"echo-tui: {inert(said[:1].lower() + said[1:])}; see `{path} --help`", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0
