"""`python -m echo_core.workflow`: the conductor's process."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

from echo_core.agents.lockfile import LockFile
from echo_core.errors import EchoError
from echo_core.logs import Log
from echo_core.organisation import load_organisation
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.workflow.conductor import Conductor


def main() -> int:
    try:
        settings = resolve_urls(Settings.load())
        settings.prepare()
        organisation = load_organisation(settings.organisation)
        lock = LockFile(settings.run_dir / "conductor.lock")
        lock.take("a conductor")
    except EchoError as error:
        print(f"echo-conductor: {error}", file=sys.stderr)
        return error.exit_code

    async def run() -> None:
        conductor = Conductor(settings, organisation, Log(settings.logs_dir / "conductor.log"))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, conductor.request_stop)
        await conductor.run()

    gc.freeze()
    asyncio.run(run())
    lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
