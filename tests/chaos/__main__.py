"""`python -m tests.chaos`: a storm of faults over an organisation at work, then an audit. Prints one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys

from tests.chaos.run import Size, run

HOME, AWAY = "ceo,cto*2,chro,product_manager,operations_head", "senior_architect,test_lead"
SHORT_HOME, SHORT_AWAY = "ceo,cto*2,product_manager", "senior_architect"
SHORT = (18, 120, 2)
FULL = (500, 5000, 30)


def size(arguments: list[str] | None = None) -> tuple[Size, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the same seed, the same faults; default: a new one")
    parser.add_argument("--faults", type=int)
    parser.add_argument("--messages", type=int)
    parser.add_argument("--decisions", type=int)
    parser.add_argument("--short", action="store_true", help="a small organisation and some twenty faults")
    parser.add_argument("--quiet", action="store_true", help="only the JSON")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a failed run")
    options = parser.parse_args(arguments)
    faults, messages, decisions = SHORT if options.short else FULL
    given = Size(
        seed=secrets.randbelow(1_000_000) if options.seed is None else options.seed,
        faults=faults if options.faults is None else options.faults,
        messages=messages if options.messages is None else options.messages,
        decisions=decisions if options.decisions is None else options.decisions,
        home=SHORT_HOME if options.short else HOME,
        away=SHORT_AWAY if options.short else AWAY,
        short=options.short,
        quiet=options.quiet,
    )
    return given, options.keep


def main() -> int:
    given, keep = size()
    report = asyncio.run(run(given, keep=keep))
    json.dump(report, sys.stdout, indent=2)
    print()
    if not report["ok"]:
        print(f"seed {given.seed} failed; again: {given.command}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
