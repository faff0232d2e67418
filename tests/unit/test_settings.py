"""Where things are: options before the environment, and one line for what can't be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from echo_core.errors import DataDirectoryError, UsageError
from echo_core.settings import DEFAULT_ROSTER, Settings, parse_roster, shown_url


def load(**values: object) -> Settings:
    return Settings.load(**{"data_dir": "/nowhere", "environ": {}, **values})  # type: ignore[arg-type]


def test_an_option_comes_before_the_environment_which_comes_before_the_default(tmp_path: Path) -> None:
    environ = {"ECHO_DATA_DIR": str(tmp_path), "ECHO_LLM": "OFF", "ECHO_DATABASE_URL": "postgresql://env/x"}
    settings = Settings.load(environ=environ)
    assert (settings.data_dir, settings.llm, settings.database_url) == (tmp_path, "off", "postgresql://env/x")
    assert (settings.roster, settings.delay_seconds, settings.redis_url) == (DEFAULT_ROSTER, 2.0, "")
    given = Settings.load(data_dir="/given", database_url="postgresql://given/x", delay=0, environ=environ)
    assert (given.data_dir, given.database_url, given.delay_seconds) == (Path("/given"), "postgresql://given/x", 0)


def test_a_child_process_arrives_at_the_same_settings(tmp_path: Path) -> None:
    settings = load(
        data_dir=tmp_path,
        database_url="postgresql://h/x",
        redis_url="redis://h",
        ollama_host="http://h:1",
        organisation=tmp_path / "o.toml",
    )
    child = Settings.load(environ=settings.environment())
    assert child.environment() == settings.environment()


def test_servers_are_embedded_unless_both_urls_are_given() -> None:
    assert load().embedded
    assert load(database_url="postgresql://h/x").embedded
    assert not load(database_url="postgresql://h/x", redis_url="redis://h").embedded


def test_a_roster_names_roles_and_how_many_of_each() -> None:
    assert parse_roster("ceo, cto*2") == ("ceo", "cto", "cto")


@pytest.mark.parametrize("text", ["ceo,,cto", ",", "ceo*", "ceo*x", "ceo*0", "ceo*33", "ceo*-1", "*2", "ceo*1*2", "ceo*²"])
def test_a_roster_that_cannot_be_read_says_where(text: str) -> None:
    with pytest.raises(UsageError, match="--roster"):
        parse_roster(text)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http://h/x",
        "postgresql:h",
        "postgresql://h:notaport/",
        "postgresql://h:0/x",
        "postgresql://h:70000/x",
        "postgresql://h:1,h2:x/db",
        "postgresql://[::1/x",
        "postgresql://h/x?nonsense=1",
        "postgresql://u:p%zz@h/x",
    ],
)
def test_a_database_url_libpq_would_refuse_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="--database-url") as caught:
        load(database_url=url).check_urls()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "http://h", "redis://h:notaport", "redis://[::1", "unix://", "redis://h?nonsense=1", "redis://h:99999"],
)
def test_a_redis_url_redis_py_would_refuse_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="--redis-url") as caught:
        load(redis_url=url).check_urls()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["ftp://h", "http://h:notaport", "h:99999", "http://a b"])
def test_an_ollama_host_nobody_can_reach_is_refused_at_once(host: str) -> None:
    with pytest.raises(UsageError, match="--ollama-host"):
        load(ollama_host=host).check_urls()


def test_urls_of_every_usual_kind_are_taken() -> None:
    for url in ("postgresql://h/x", "postgres://u:p@h:1/x", "postgresql://h:1,h2:2/x", "postgresql://u@/x?host=/tmp/s"):
        load(database_url=url).check_urls()
    for url in ("redis://h", "rediss://u:p@h:1/2", "unix:///tmp/s.sock", "redis://[::1]:6379/0"):
        load(redis_url=url).check_urls()
    for host in ("127.0.0.1", "127.0.0.1:11434", "https://h/ollama"):
        load(ollama_host=host).check_urls()


def test_a_password_is_never_repeated() -> None:
    assert shown_url("postgresql://u:secret@h/x") == "postgresql://u:***@h/x"
    with pytest.raises(UsageError) as caught:
        load(database_url="http://u:secret@h:notaport/x").check_urls()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("delay", [-1, 601, float("nan")])
def test_a_delay_is_from_none_to_ten_minutes(delay: float) -> None:
    with pytest.raises(UsageError, match="--delay"):
        load(delay=delay)


def test_a_mode_of_minds_nobody_knows_is_named() -> None:
    with pytest.raises(UsageError, match="ECHO_LLM is 'maybe'; use auto, ollama or off"):
        load(environ={"ECHO_LLM": "maybe"})


def test_the_data_directory_is_private_and_a_file_in_its_place_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    settings = load(data_dir=folder)
    settings.check_data_dir()
    assert not folder.exists()
    settings.prepare()
    assert {path.name for path in folder.iterdir()} == {"logs", "run", "outbox"}
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (folder, *folder.iterdir()))
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "sub"):
        for use in (load(data_dir=path).check_data_dir, load(data_dir=path).prepare):
            with pytest.raises(DataDirectoryError, match="choose another with --data-dir"):
                use()
