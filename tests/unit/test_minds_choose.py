import pytest

from echo_core.minds.choose import ollama_url, pick_model, preferred_model
from echo_core.organisation import Organisation
from echo_core.settings import Settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        (":5000", "http://127.0.0.1:5000"),
        (' "example.com:80/" ', "http://example.com:80"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[::]", "http://[::1]:11434"),
        ("example.com:port", "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
    ],
)
def test_an_ollama_host_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama_url(host) == url


@pytest.mark.parametrize(
    ("wanted", "installed", "picked"),
    [
        ("llama3.2", ["qwen3:4b", "llama3.2:latest"], "llama3.2:latest"),
        ("llama3.2:3b", ["llama3.2:latest", "llama3.2:3b"], "llama3.2:3b"),
        ("Llama3.2", ["qwen3:4b", "llama3.2:latest"], "llama3.2:latest"),
        ("llama3.2", ["qwen3:4b", "llama3.2:1b"], "qwen3:4b"),
        ("", ["qwen3:4b"], "qwen3:4b"),
    ],
)
def test_the_preferred_model_is_picked_if_it_is_there_else_the_first(wanted: str, installed: list[str], picked: str) -> None:
    assert pick_model(wanted, installed) == picked


def test_a_role_s_own_wish_comes_before_everybody_s_and_that_before_the_organisation_s(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = organisation.role("cto")
    assert preferred_model(role, Settings.load(data_dir="/tmp/x", environ={})) == role.model
    settings = Settings.load(data_dir="/tmp/x", environ={"ECHO_MODEL": "qwen3"})
    assert preferred_model(role, settings) == "qwen3"
    monkeypatch.setenv("ECHO_MODEL_CTO", "phi4")
    assert preferred_model(role, settings) == "phi4"
    assert preferred_model(organisation.role("ceo"), settings) == "qwen3"
