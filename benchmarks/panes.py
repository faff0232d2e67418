"""Nine log panes in a pseudo-terminal of 200x60 while nine logs grow, ours and stock RichLog in the same run. Prints JSON.

A key is sent 20 times a second; its latency is from the byte in the terminal to its handler in the app. A key that was not
handled before the end counts with the time it had waited. Rounds of both alternate, so that a slower minute of the machine
hits both. Both get their lines from the same feed, from files written by another process.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PANES = 9
COLUMNS, ROWS = 200, 60
OFFERED_LINES = 20_000  # a second, over all panes
ROUNDS = 2
ROUND_SECONDS = 6.0
QUIET_SECONDS = 4.0
SETTLE_SECONDS = 1.0  # after the first frame, before anything is measured
KEY_SECONDS = 0.05
WRITE_SECONDS = 0.02
TELL_SECONDS = 0.2
KEPT_LINES = 5_000


@dataclass
class Round:
    offered: float = 0.0  # lines a second
    taken: float = 0.0
    cpu: float = 0.0  # percent of one core
    memory: float = 0.0  # MB
    latencies: list[float] = field(default_factory=list)  # seconds


def write_logs(folder: Path, rate: int) -> None:
    """Until killed: lines of some 115 bytes, some with colours, wide characters or a warning; tells how many it wrote."""
    from echo_core.logs import log_line

    texts = [
        ("INFO", "recv", "#42 request from operator: shall we move the reporting database to another region"),
        ("INFO", "judge", "lead 0.86 keyword: database, region, Größe, 漢字, with a reason that takes its room"),
        ("WARN", "mind", "asking llama3.2 took 4.1 s, the limit is 30 s; \x1b[33mthe colours of a model\x1b[0m"),
        ("INFO", "sent", "#43 response to operator: a position, three reasons, and a condition for the first"),
    ]
    files = [(folder / f"agent{number}.log").open("ab", buffering=0) for number in range(PANES)]
    begun, written = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun) * rate) - written
        share = max(0, due // PANES)
        lines = "".join(log_line(*texts[number % len(texts)]) + "\n" for number in range(share)).encode()
        for file in files:
            file.write(lines)
        written += share * PANES
        print(f"{time.monotonic()} {written}", flush=True)
        time.sleep(WRITE_SECONDS)


def show_panes(kind: str, folder: Path, report: int) -> None:
    """The app under measurement. Reports `k TIME` for each key, `t TIME TOTAL` a few times a second."""
    from textual import events
    from textual.app import App, ComposeResult
    from textual.containers import Grid
    from textual.widgets import RichLog

    from echo_tui.logs.feed import LogFeed
    from echo_tui.widgets.log_view import LogView

    class Panes(App[None]):
        CSS = "Grid { grid-size: 3 3; } RichLog { scrollbar-size: 0 0; }"

        def compose(self) -> ComposeResult:
            self.taken, self.told = 0, time.monotonic()
            self.panes: dict[str, LogView | RichLog] = {
                f"agent{number}": LogView() if kind == "ours" else RichLog(max_lines=KEPT_LINES) for number in range(PANES)
            }
            with Grid():
                yield from self.panes.values()

        def on_mount(self) -> None:
            feed = LogFeed(self.take)
            for name in self.panes:
                feed.watch(name, folder / f"{name}.log")
            self.run_worker(feed.run(), name="feed")
            self.set_interval(TELL_SECONDS, self.tell)
            self.call_after_refresh(self.ready)

        def ready(self) -> None:
            gc.collect()
            gc.freeze()
            os.write(report, f"t {time.monotonic()} 0\n".encode())

        def take(self, name: str, lines: list[bytes]) -> None:
            pane = self.panes[name]
            if isinstance(pane, LogView):
                pane.append(lines)
                self.taken += len(lines)
                return
            for line in lines:
                pane.write(line.decode("utf-8", "replace"))
                self.taken += 1
                if time.monotonic() - self.told > TELL_SECONDS:  # no timer runs before the whole batch is drawn
                    self.tell()

        def tell(self) -> None:
            self.told = time.monotonic()
            os.write(report, f"t {time.monotonic()} {self.taken}\n".encode())

        def on_key(self, event: events.Key) -> None:
            os.write(report, f"k {time.monotonic()}\n".encode())

    Panes().run()


class Drain(threading.Thread):
    """Takes what arrives at a descriptor, as a fast terminal does, so that nothing waits for its reader."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor = descriptor
        self.data = bytearray()
        self.keep = True
        self.start()

    def run(self) -> None:
        while True:
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:  # the other end of a pseudo-terminal is gone
                return
            if not data:
                return
            if self.keep:
                self.data += data


def started(kind: str, folder: Path) -> tuple[subprocess.Popen[bytes], int, Drain, Drain]:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    reading, writing = os.pipe()
    app = subprocess.Popen(
        [sys.executable, __file__, "app", kind, str(folder), str(writing)],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        pass_fds=[writing],
        env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        start_new_session=True,
    )
    os.close(inside)
    os.close(writing)
    screen, reports = Drain(terminal), Drain(reading)
    deadline = time.monotonic() + 20
    while b"t " not in reports.data:
        if app.poll() is not None or time.monotonic() > deadline:
            app.kill()
            raise SystemExit(f"the {kind} panes did not start: {screen.data[-2000:].decode('utf-8', 'replace')}")
        time.sleep(0.05)
    screen.keep = False
    return app, terminal, screen, reports


def measured(kind: str, rate: int, seconds: float) -> Round:
    with tempfile.TemporaryDirectory(prefix="echo-panes-") as name:
        folder = Path(name)
        app, terminal, _, reports = started(kind, folder)
        writer = None
        try:
            if rate:
                writer = subprocess.Popen([sys.executable, __file__, "write", name, str(rate)], stdout=subprocess.PIPE)
                assert writer.stdout is not None
                writes = Drain(writer.stdout.fileno())
            time.sleep(SETTLE_SECONDS)
            process = psutil.Process(app.pid)
            begun, used = time.monotonic(), sum(process.cpu_times()[:2])
            sent: list[float] = []
            while time.monotonic() - begun < seconds:
                if rate and select.select([], [terminal], [], 1)[1]:  # a quiet room has nobody who types
                    sent.append(time.monotonic())
                    os.write(terminal, b"abcdefghij"[len(sent) % 10 : len(sent) % 10 + 1])
                time.sleep(KEY_SECONDS)
            ended = time.monotonic()
            result = Round(cpu=100 * (sum(process.cpu_times()[:2]) - used) / (ended - begun))
            result.memory = process.memory_info().rss / 1e6
            # An app that is far behind tells its total late as well: what it told until now is what it had taken.
            time.sleep(0.2)
            rows = [line.split() for line in bytes(reports.data).decode().splitlines() if line]
            handled = [float(row[1]) for row in rows if row[0] == "k" and float(row[1]) <= ended]
            waited = [ended - at for at in sent[len(handled) :]]
            result.latencies = [done - at for at, done in zip(sent, handled, strict=False)] + waited
            result.taken = pace([(float(row[1]), int(row[2])) for row in rows if row[0] == "t"], begun, ended)
            if writer is not None:
                told = [line.split() for line in bytes(writes.data).decode().splitlines()[:-1]]
                result.offered = pace([(float(at), int(count)) for at, count in told], begun, ended)
            return result
        finally:
            for child in (app, writer):
                if child is not None:
                    child.kill()
                    child.wait()
            os.close(terminal)


def pace(counts: list[tuple[float, int]], begun: float, ended: float) -> float:
    """Lines a second between the last count before `begun` and the last before `ended`."""
    before = [entry for entry in counts if entry[0] <= begun]
    within = [entry for entry in counts if entry[0] <= ended]
    (start, first), (_, last) = (before or counts)[-1 if before else 0], within[-1]
    return (last - first) / max(ended - start, 1e-9)


def summary(rounds: list[Round]) -> dict[str, float]:
    latencies = sorted(latency for each in rounds for latency in each.latencies)
    return {
        "offered_lines_per_second": round(statistics.mean(each.offered for each in rounds)),
        "taken_lines_per_second": round(statistics.mean(each.taken for each in rounds)),
        "cpu_percent": round(statistics.mean(each.cpu for each in rounds), 1),
        "memory_mb": round(max(each.memory for each in rounds), 1),
        "key_p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
        "key_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2),
        "keys": len(latencies),
    }


def main() -> None:
    rounds: dict[str, list[Round]] = {"ours": [], "richlog": []}
    for _ in range(ROUNDS):
        for kind, results in rounds.items():
            results.append(measured(kind, OFFERED_LINES, ROUND_SECONDS))
    quiet = measured("ours", 0, QUIET_SECONDS)
    ours, floor = summary(rounds["ours"]), summary(rounds["richlog"])
    result = {
        "panes": PANES,
        "terminal": f"{COLUMNS}x{ROWS}",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),  # above the cores, others worked here too, and latencies tell of them
        "ours": ours,
        "richlog": floor,
        "ratio": {
            "taken_per_cpu": round(
                (ours["taken_lines_per_second"] / ours["cpu_percent"])
                / max(floor["taken_lines_per_second"] / floor["cpu_percent"], 1e-9),
                1,
            ),
            "key_p50": round(floor["key_p50_ms"] / ours["key_p50_ms"]),
            "key_p99": round(floor["key_p99_ms"] / ours["key_p99_ms"]),
        },
        "ours_quiet_cpu_percent": round(quiet.cpu, 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder, rate]:
            write_logs(Path(folder), int(rate))
        case ["app", kind, folder, report]:
            show_panes(kind, Path(folder), int(report))
        case []:
            main()
        case _:
            raise SystemExit("usage: python benchmarks/panes.py")
