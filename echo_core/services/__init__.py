"""Real PostgreSQL and real Valkey from wheels, for people who have no servers of their own."""

from echo_core.services.embedded import EmbeddedServers as EmbeddedServers
from echo_core.services.embedded import resolve_urls as resolve_urls
from echo_core.services.paths import short_path as short_path
