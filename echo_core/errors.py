"""Every error a person can meet has one root; its docstring is the default message and says what to do next."""

from __future__ import annotations


class EchoError(Exception):
    """Something went wrong in ECHO; `echo-tui doctor` shows what it can see."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class UsageError(EchoError):
    """That is not how this command is used; see --help."""

    exit_code = 2


class OrganisationError(UsageError):
    """The organisation file can't be used; compare it with the default one in the documentation."""


class UnknownRole(UsageError):
    """No such role in this organisation; `echo-tui status` lists the roles."""


class InvalidMessage(UsageError):
    """The message was refused; nothing was sent."""


class DataDirectoryError(UsageError):
    """The data directory can't be used; choose another with --data-dir."""


class ServerUnavailable(EchoError):
    """A server can't be reached; `echo-tui doctor` shows which."""


class DatabaseUnavailable(ServerUnavailable):
    """PostgreSQL can't be reached; what is sent is held in the outbox until it is back."""


class RedisUnavailable(ServerUnavailable):
    """Redis can't be reached; messages are delivered by catch-up until it is back."""


class DatabaseRefused(EchoError):
    """PostgreSQL refused the statement."""

    passing = False  # whether the reason is the server's state, not the statement: later it may be taken


class SupervisorUnavailable(ServerUnavailable):
    """No supervisor runs for this data directory; `echo-tui up` starts one."""


class OrganisationStopped(EchoError):
    """Everything in this data directory was stopped; `echo-tui up` starts it again."""


class AlreadyRunning(EchoError):
    """That process already runs for this data directory."""

    exit_code = 75
