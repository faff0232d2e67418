"""Where the embedded servers' files are, and as whom the servers run."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from echo_core.errors import DataDirectoryError
from echo_core.services.paths import postgres_installation, short_path, valkey_binary

SYSTEM_HOMES = Path("/var/lib/echo-control-room")
UNPRIVILEGED = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, slots=True)
class ServerHome:
    """A private folder for both servers. `user` is None unless we are root: PostgreSQL refuses to run as root."""

    folder: Path
    user: pwd.struct_passwd | None

    @property
    def postgres_data(self) -> Path:
        return self.folder / "postgres"

    @property
    def valkey_data(self) -> Path:
        return self.folder / "valkey"

    @property
    def spawn_options(self) -> dict[str, object]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    @property
    def operating_system_users(self) -> tuple[str, ...]:
        """Who may connect: the one who runs this, and the one the servers run as."""
        us = pwd.getpwuid(os.getuid()).pw_name
        return (us,) if self.user is None else (us, self.user.pw_name)

    @classmethod
    def of(cls, data_dir: Path) -> ServerHome:
        """Reads only: also right before anything was made."""
        link = data_dir / "servers"
        if os.getuid() != 0:
            return cls(short_path(data_dir), None)
        user = _unprivileged_user()
        return cls(Path(os.readlink(link)) if link.is_symlink() else link, user)

    @classmethod
    def prepare(cls, data_dir: Path) -> ServerHome:
        home = cls.of(data_dir)
        if home.user is not None and not (data_dir / "servers").is_symlink():
            SYSTEM_HOMES.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder = SYSTEM_HOMES / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            os.chown(folder, home.user.pw_uid, home.user.pw_gid)
            (data_dir / "servers").symlink_to(folder)
            home = cls(folder, home.user)
        if not home.folder.is_dir():
            raise DataDirectoryError(f"{data_dir / 'servers'} points to {home.folder}, which is gone; remove the link")
        for folder in (home.postgres_data, home.valkey_data):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                if home.user is not None:
                    os.chown(folder, home.user.pw_uid, home.user.pw_gid)
        return home

    def postgres_installation(self) -> Path:
        source = postgres_installation()
        return self._reachable(source, source / "bin" / "postgres")

    def valkey_binary(self) -> Path:
        source = valkey_binary()
        return self._reachable(source, source)

    def _reachable(self, source: Path, program: Path) -> Path:
        """The program's own place, or a copy in the home when the servers' user can't enter that place."""
        if self.user is None or _can_be_entered(program, self.user.pw_uid):
            return source
        runtime = self.folder / "runtime"
        target = runtime / source.name
        if not target.exists():
            runtime.mkdir(mode=0o755, exist_ok=True)
            temporary = runtime / f".{source.name}.{os.getpid()}"
            if source.is_dir():
                shutil.copytree(source, temporary, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
            else:
                shutil.copy2(source, temporary)
            os.rename(temporary, target)
        return target


def _unprivileged_user() -> pwd.struct_passwd:
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DataDirectoryError("no unprivileged user (postgres, nobody, daemon) to run PostgreSQL as; give --database-url")


def _can_be_entered(path: Path, uid: int) -> bool:
    for folder in path.resolve().parents:
        status = folder.stat()
        if not (status.st_mode & 0o001 or (status.st_uid == uid and status.st_mode & 0o100)):
            return False
    return True
