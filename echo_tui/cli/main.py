"""`echo-tui`: the control room, at once when nothing else is asked for; otherwise one of the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

# The common options by their long names. The control room is opened without the command-line library: its first
# paint would wait a tenth of a second for commands nobody asked for.
_OPTIONS = {
    "--data-dir": "data_dir",
    "--database-url": "database_url",
    "--redis-url": "redis_url",
    "--ollama-host": "ollama_host",
    "--roster": "roster",
    "--delay": "delay",
    "--organisation": "organisation",
}
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code; whatever goes wrong is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow terminal encoding stops no output
    from echo_core.errors import EchoError

    try:
        options = _only_options(arguments)
        code = _control_room(options) if options is not None else _command(arguments)
        sys.stdout.flush()
        return code
    except EchoError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what the interpreter still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last edge: a person gets one line, the log the traceback
        return _unexpected(error)


def _only_options(arguments: Sequence[str]) -> dict[str, str] | None:
    """The options for the control room, or None when this is for the command-line library."""
    values: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name not in _OPTIONS:
            return None
        given = value if equals else next(rest, None)
        if given is None or (not equals and given.startswith("--")):
            return None
        values[_OPTIONS[name]] = given
    return values


def _control_room(options: dict[str, Any]) -> int:
    from echo_core.errors import UsageError
    from echo_core.settings import Settings

    if "delay" in options:
        try:
            options["delay"] = float(options["delay"])
        except ValueError:
            raise UsageError(f"--delay takes seconds, not {options['delay']!r}") from None
    if options.get("organisation") or os.environ.get("ECHO_ORGANISATION"):
        from echo_tui.cli.options import load

        settings = load(**options)
    else:
        settings = Settings.load(**options)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the control room needs a terminal; `echo-tui run` and `echo-tui up` work without one")
    settings.prepare()
    _errors_go_to[:] = [str(settings.logs_dir)]
    from echo_tui.app import run as run_control_room

    return int(run_control_room(settings) or 0)


def _command(arguments: Sequence[str]) -> int:
    from echo_tui.cli.program import program

    return program(arguments)


_errors_go_to: list[str] = []


def _fail(text: str, code: int) -> int:
    from echo_core.text import inert

    sys.stdout.flush()
    print(f"echo-tui: {inert(text)}", file=sys.stderr)
    return code


def _unexpected(error: Exception) -> int:
    import traceback
    from datetime import UTC, datetime
    from pathlib import Path

    folder = Path(_errors_go_to[0]) if _errors_go_to else None
    if folder is None and "echo_tui.cli.options" in sys.modules:
        from echo_tui.cli.options import last_settings

        folder = last_settings[0].logs_dir if last_settings else None
    line = f"unexpected: {type(error).__name__}: {error}"
    try:
        assert folder is not None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "echo-tui.log"
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} ERROR {'crash':<8} {line}\n")
            log.write("".join(traceback.format_exception(error)))
    except (OSError, AssertionError):
        return _fail(f"{line} (and no log could be written)", 1)
    return _fail(f"{line}; the details are in {path}", 1)


if __name__ == "__main__":
    main()
