"""`echo-agent`: one agent by itself. Imports little, so that an organisation of agents starts quickly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from echo_core.errors import EchoError
from echo_core.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code; an error is one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        if not options.autonomous:
            print("echo-agent: MCP on standard input is not built yet; --autonomous runs the agent", file=sys.stderr)
            return 2
        settings = Settings.load(
            data_dir=options.data_dir,
            database_url=options.database_url,
            redis_url=options.redis_url,
            ollama_host=options.ollama_host,
            organisation=options.organisation,
        )
        settings.check_urls()
        settings.prepare()
        from echo_core.agents.process import run_agent

        return run_agent(settings, options.role, options.instance, supervised=options.supervised)
    except EchoError as error:
        print(f"echo-agent: {error}", file=sys.stderr)
        return error.exit_code


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"echo-agent: {message}; see `echo-agent --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="echo-agent",
        description="Run one agent of an ECHO organisation by itself; `echo-tui up` runs all of them.",
        epilog="Exit codes: 0 asked to stop, 1 failed, 2 wrong usage, 75 that agent runs already.",
    )
    parser.add_argument("role", help="the role it plays, such as cto")
    parser.add_argument("--autonomous", action="store_true", help="run until told to stop, handling what the role is owed")
    parser.add_argument("--instance", type=_instance, default=1, metavar="N", help="which of several agents of the role")
    parser.add_argument("--data-dir", metavar="DIR", help="where the organisation's servers, logs and state live")
    parser.add_argument("--database-url", metavar="URL", help="PostgreSQL; default: the data directory's own")
    parser.add_argument("--redis-url", metavar="URL", help="Redis; default: the data directory's own")
    parser.add_argument("--ollama-host", metavar="URL", help="where Ollama answers")
    parser.add_argument("--organisation", metavar="FILE", help="another organisation than the default one, TOML")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    return parser


def _instance(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 999:
        raise argparse.ArgumentTypeError("a number from 1 to 999 is needed")
    return int(text)
