"""One's own servers and one's own organisation, given to `echo-tui run`."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from echo_core.services import EmbeddedServers
from tests.support.command_line import EchoTui
from tests.support.processes import end_all, processes_of

BAKERY = """
name = "Bakery"
[roles.owner]
title = "Owner"
leadership = true
keywords = { oven = 0.9, price = 0.8 }
concerns = [{ words = ["oven"], asks = "what it costs a year", proposal = "ask for two offers" }]
[roles.baker]
title = "Master baker"
reports_to = "owner"
keywords = { oven = 1.0, bread = 1.0, dough = 0.9 }
concerns = [{ words = ["oven"], asks = "how the crust turns out", proposal = "bake a trial batch" }]
[roles.seller]
reports_to = "owner"
keywords = { customer = 0.9, price = 0.9 }
"""


def test_a_firm_of_one_s_own_decides_on_servers_of_one_s_own(
    tmp_path: Path, servers: EmbeddedServers, database_url: str, admin_url: str, redis_url: str
) -> None:
    firm = tmp_path / "bakery.toml"
    firm.write_text(BAKERY)
    with psycopg.connect(admin_url, autocommit=True, row_factory=dict_row) as admin:
        admin.execute("UPDATE roles SET active = false WHERE NOT system")  # nobody of the default organisation is here
        before = (servers.postgres_pid(), servers.valkey_pid())
        given = ("--database-url", database_url, "--redis-url", redis_url, "--organisation", str(firm), "--delay", "0")
        echo_tui = EchoTui(tmp_path / "data", given, cwd=tmp_path)
        try:
            said = echo_tui("run", "--subject", "Shall we buy a second oven for bread?", "--json")
            assert said.code == 0, said.err
            value = said.json
            assert value["status"] in ("approved", "rejected")
            assert {item["role"] for item in value["participants"]} == {"owner", "baker", "seller"}
            assert next(item for item in value["participants"] if item["role"] == "baker")["stance"] == "lead"
            assert {agent["role"] for agent in value["agents"]} == {"owner", "baker", "seller"}
            assert {action["owner"] for action in value["outcome"]["actions"]} <= {"owner", "baker", "seller"}
            row = admin.execute("SELECT status FROM decisions WHERE id = %s", [value["decision_id"]]).fetchone()
            assert row == {"status": value["status"]}
        finally:
            left = processes_of(tmp_path / "data")
            end_all(tmp_path / "data")
    assert left == []
    assert (servers.postgres_pid(), servers.valkey_pid()) == before, "the given servers were not ours to end"
    made = {path.name for path in (tmp_path / "data").iterdir()}
    assert made == {"logs", "run", "outbox"}, "no embedded server was made"
    assert not any(path.name in ("postgres.log", "valkey.log") for path in (tmp_path / "data" / "logs").iterdir())
