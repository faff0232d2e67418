"""The options every command takes, in one place: declared once, handed to a command as its Settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from echo_core.settings import DEFAULT_ROSTER, Settings

DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where its servers, logs and state live.")]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", metavar="URL", help="Your own PostgreSQL, postgresql://…")
]
RedisUrl = Annotated[str | None, typer.Option("--redis-url", metavar="URL", help="Your own Redis, redis://… or unix://…")]
OllamaHost = Annotated[
    str | None, typer.Option("--ollama-host", metavar="URL", help="Where Ollama answers (127.0.0.1:11434).")
]
Roster = Annotated[str | None, typer.Option("--roster", metavar="A,B,C", help="Who is launched, in order: ceo,cto*2.")]
Delay = Annotated[float | None, typer.Option("--delay", metavar="SECONDS", help="Pause between two launches (2).")]
OrganisationFile = Annotated[
    str | None, typer.Option("--organisation", metavar="FILE", help="Another organisation than the default one, TOML.")
]

COMMON: dict[str, Any] = {
    "data_dir": DataDir,
    "database_url": DatabaseUrl,
    "redis_url": RedisUrl,
    "ollama_host": OllamaHost,
    "roster": Roster,
    "delay": Delay,
    "organisation": OrganisationFile,
}

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

last_settings: list[Settings] = []  # where an unexpected error's details go


def load(**values: Any) -> Settings:
    """Raises UsageError. An organisation without the usual roles is launched whole unless a roster is given."""
    settings = Settings.load(**values)
    settings.check_urls()
    if settings.organisation and not values.get("roster"):
        from echo_core.organisation import load_organisation

        roles = load_organisation(Path(settings.organisation)).roles
        if not all(role in roles for role in DEFAULT_ROSTER):
            settings = replace(settings, roster=tuple(roles))
    last_settings[:] = [settings]
    return settings


def with_settings(command: Callable[..., Any], *, check_data_dir: bool = True) -> Callable[..., Any]:
    """A command's first parameter, `settings`, is made of the common options, given before or after its name."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name not in ("settings", "context")
    ]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in COMMON.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

    def call(**values: Any) -> Any:
        given = dict(values.pop("context").obj or {})
        given.update({name: value for name in COMMON if (value := values.pop(name)) is not None})
        settings = load(**given)
        if check_data_dir:
            settings.check_data_dir()
        return command(settings, **values)

    functools.update_wrapper(call, command)
    del call.__wrapped__  # type: ignore[attr-defined]  # its signature is not ours
    call.__signature__ = inspect.Signature([*own, *common, context])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *common, context]}
    return call
