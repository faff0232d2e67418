"""`python -m echo_core.supervisor`: the background process that starts and keeps the others of a data directory."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from dataclasses import replace

from echo_core.agents.lockfile import LockFile
from echo_core.errors import EchoError
from echo_core.logs import Log
from echo_core.organisation import load_organisation
from echo_core.settings import Settings
from echo_core.supervisor.process import Supervisor


def main() -> int:
    parser = argparse.ArgumentParser(prog="echo-supervisor")
    parser.add_argument("--roster")
    parser.add_argument("--delay", type=float)
    parser.add_argument("--no-agents", action="store_true")
    options = parser.parse_args()
    try:
        settings = Settings.load(roster=options.roster, delay=options.delay)
        if options.no_agents:
            settings = replace(settings, roster=())
        settings.check_urls()
        settings.prepare()
        organisation = load_organisation(settings.organisation)
        for role in settings.roster:
            organisation.role(role)
        lock = LockFile(settings.run_dir / "supervisor.lock")
        lock.take("a supervisor")
    except EchoError as error:
        print(f"echo-supervisor: {error}", file=sys.stderr)
        return error.exit_code
    supervisor = Supervisor(settings, organisation, Log(settings.logs_dir / "supervisor.log"))
    gc.freeze()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.request_shutdown)
        await supervisor.run()

    asyncio.run(run())
    lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
