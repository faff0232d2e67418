"""Commands about the organisation as a whole: up, status, stop."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from echo_core.bus.outbox import Outbox
from echo_core.errors import EchoError
from echo_core.minds.choose import installed_models
from echo_core.services import resolve_urls
from echo_core.settings import Settings, shown_url
from echo_core.snapshot import Snapshot
from echo_core.storage.database import Database
from echo_core.supervisor.client import SupervisorClient
from echo_tui.cli import options
from echo_tui.cli.launch import Launch, time_limit
from echo_tui.cli.output import progress, say, say_json, say_table
from echo_tui.cli.session import (
    check_servers,
    known_organisation,
    locked,
    run_async,
    running_supervisor,
    server_pids,
    stop_everything,
    wanted,
)

OUT_OF_TIME = 4
UNSUPERVISED = "unsupervised"  # it runs, and no supervisor keeps it


def up(
    settings: Settings,
    no_agents: Annotated[bool, typer.Option("--no-agents", help="Servers and conductor only.")] = False,
) -> int:
    """Start servers, conductor and agents in the background; returns when they are healthy."""
    known_organisation(settings)
    return run_async(_up(settings, no_agents))


async def _up(settings: Settings, no_agents: bool) -> int:
    if await running_supervisor(settings) is None:
        await check_servers(settings)
    client = SupervisorClient(settings, no_agents=no_agents)
    await client.connect()
    keys = [] if no_agents else wanted(settings)
    if not client.started and not no_agents:
        await client.command("launch", roster=list(settings.roster), delay=settings.delay_seconds)
    missing = await Launch(client, keys).wait(time_limit(settings))
    if missing:
        progress(f"out of time: {', '.join(missing)} did not come up; `echo-tui doctor` shows more")
        return OUT_OF_TIME
    say(f"up: {len(keys)} agents" if keys else "up: servers and conductor")
    return 0


def status(settings: Settings, json: options.Json = False) -> int:
    """What runs in the data directory, and where its servers are reached."""
    return run_async(_status(settings, json))


async def _status(settings: Settings, as_json: bool) -> int:
    client = await running_supervisor(settings)
    snapshot = await client.status() if client else None
    value = _of_snapshot(snapshot) if snapshot else await _without_supervisor(settings)
    if as_json:
        say_json(value)
    else:
        _print_status(settings, value, snapshot)
    return 0


def _of_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    ollama = next((light.state for light in snapshot.dependencies if light.name == "ollama"), "off")
    return {
        "data_dir": snapshot.data_dir,
        "database_url": snapshot.database_url,
        "redis_url": snapshot.redis_url,
        "ollama": {
            "host": snapshot.ollama_host,
            "reachable": ollama == "up" or bool(snapshot.models),
            "models": list(snapshot.models),
        },
        "supervisor": {"pid": snapshot.supervisor_pid},
        "conductor": {"pid": snapshot.conductor_pid, "state": snapshot.conductor_state},
        "agents": [
            {
                "role": agent.role,
                "instance": agent.instance,
                "pid": agent.pid,
                "state": agent.state,
                "breaker": agent.breaker,
                "heartbeat_age": agent.heartbeat_age,
            }
            for agent in snapshot.agents
        ],
        "deliveries": {"pending": snapshot.pending, "dead": snapshot.dead},
        "outbox": snapshot.outbox,
    }


async def _without_supervisor(settings: Settings) -> dict[str, Any]:
    """What can be seen from outside: processes by their lock files, deliveries where the database answers."""
    urls = resolve_urls(settings)
    models = await installed_models(settings.ollama_host)
    holders = locked(settings)
    conductor = holders.pop("conductor", None)
    holders.pop("supervisor", None)
    counts: dict[str, int | None] = {"pending": None, "dead": None}
    if settings.database_url or "postgresql" in server_pids(settings):
        database = Database(urls.database_url, name="command line")
        try:
            row = await database.fetch_one("delivery_counts")
            counts = {"pending": row["pending"], "dead": row["dead"]} if row else counts
        except EchoError as error:
            progress(str(error))
        finally:
            await database.close()
    return {
        "data_dir": str(settings.data_dir),
        "database_url": urls.database_url,
        "redis_url": urls.redis_url,
        "ollama": {"host": settings.ollama_host, "reachable": models is not None, "models": models or []},
        "supervisor": None,
        "conductor": {"pid": conductor, "state": UNSUPERVISED if conductor else "stopped"},
        "agents": [
            {
                "role": role,
                "instance": instance,
                "pid": pid,
                "state": UNSUPERVISED,
                "breaker": None,
                "heartbeat_age": None,
            }
            for (role, instance), pid in ((_split(name), pid) for name, pid in holders.items())
        ],
        "deliveries": counts,
        "outbox": Outbox(settings.outbox_dir).count(),
    }


def _split(name: str) -> tuple[str, int]:
    role, _, number = name.rpartition("-")
    return (role, int(number)) if role and number.isdigit() else (name, 1)


def _print_status(settings: Settings, value: dict[str, Any], snapshot: Snapshot | None) -> None:
    say(f"data directory  {value['data_dir']}")
    say(f"postgresql      {shown_url(value['database_url'])}")
    say(f"redis           {shown_url(value['redis_url'])}")
    ollama = value["ollama"]
    models = ", ".join(ollama["models"]) or ("no model installed" if ollama["reachable"] else "not reached: rules")
    say(f"ollama          {ollama['host']}  {models}")
    servers = [f"{name} pid {pid}" for name, pid in server_pids(settings).items()]
    if snapshot is None:
        idle = not value["agents"] and not value["conductor"]["pid"] and not servers
        say("supervisor      none" + ("; nothing runs, `echo-tui up` starts everything" if idle else ""))
        if not idle:
            say("                what still runs is listed below; `echo-tui up` adopts it, `echo-tui stop` ends it")
    else:
        say(f"supervisor      pid {value['supervisor']['pid']}")
    if value["conductor"]["pid"]:
        say(f"conductor       pid {value['conductor']['pid']}, {value['conductor']['state']}")
    if servers:
        say(f"servers         {', '.join(servers)}")
    deliveries = value["deliveries"]
    counts = [f"{deliveries['pending']} waiting", f"{deliveries['dead']} dead"] if deliveries["pending"] is not None else []
    say(f"deliveries      {', '.join([*counts, 'outbox ' + str(value['outbox'])])}")
    if snapshot is not None and snapshot.notice:
        say_table(["notice"], [[snapshot.notice]])
    if value["agents"]:
        say()
        rows = [
            [
                agent["role"] + (f"-{agent['instance']}" if agent["instance"] > 1 else ""),
                agent["state"],
                agent["pid"],
                agent["breaker"],
                "" if agent["heartbeat_age"] is None else f"{agent['heartbeat_age']:.1f} s",
            ]
            for agent in value["agents"]
        ]
        say_table(["agent", "state", "pid", "breaker", "heartbeat"], rows)


def stop(settings: Settings) -> int:
    """End everything that runs in the data directory: agents, conductor, supervisor and servers."""
    return run_async(_stop(settings))


async def _stop(settings: Settings) -> int:
    ended = await stop_everything(settings.with_urls("", ""))  # embedded servers too, whatever the environment names
    if ended.left:
        raise EchoError(f"still running: {', '.join(ended.left)}; try again, or end them with `kill`")
    say(f"stopped: {', '.join(ended.names)}" if ended.names else "nothing was running")
    return 0
