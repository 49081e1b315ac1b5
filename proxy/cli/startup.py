"""What happens before the first worker: the listening sockets, the database at its newest schema, the first people.

Everything that a person must mend ends here with one line (CommandError): a port in use, wrong credentials, a database that
does not exist, migrations that don't fit. A database that can't be reached is none of these: the server starts
without it, unready, and its workers prepare it as soon as they reach it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.cli.failure import CommandError
from proxy.settings import Settings
from proxy.store import admin_keys, migrate, people, postgres

BACKLOG = 2048
CONNECT_TIMEOUT_S = 5.0
DEMO_USER = "demo"
FIRST_USER = "first user"
EXAMPLE_MODEL = "gpt-4o-mini"


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What a first start made. Keys are here once and in no log."""

    admin_key: str | None = None
    user: str | None = None
    user_key: str | None = None


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets on one address, a queue of connections for each worker (docs/adr/0003).

    A first socket without SO_REUSEPORT finds out whether the port is free: with it, two servers could share a port
    unnoticed. Port 0 takes a free one.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = (address[0], probe.getsockname()[1], *address[2:])
    except socket.gaierror as error:
        raise CommandError(f"setting host: {host}: {error.strerror}") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} on {host} is in use: stop what uses it or set PROXY_PORT",
            errno.EACCES: f"port {port} needs more rights: take one from 1024 up with PROXY_PORT",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine: set PROXY_HOST",
        }
        raise CommandError(reasons.get(error.errno or 0, f"can't listen on {host}:{port}: {error}")) from None
    return [listening(family, address) for _ in range(count)]


def listening(family: int, address: tuple[object, ...]) -> socket.socket:
    """One more socket on an address that others of ours listen on."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6 and address[0] == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(address)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """For our own listener, where a certificate is set."""
    if settings.tls_cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error
        raise CommandError(f"TLS certificate {settings.tls_cert_file}: {reason}") from None
    return context


def base_url(settings: Settings, sock: socket.socket) -> str:
    """Where a client on this machine reaches the listener; with port 0 the port that it got."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if settings.tls_cert_file else 'http'}://{host}:{port}"


def prepare_database(url: str, settings: Settings, *, embedded: bool) -> FirstStart | None:
    """Migrations and first people, now. None: the database can't be reached. Raises CommandError to end the start."""
    try:
        return asyncio.run(prepare(url, settings, embedded=embedded))
    except migrate.MigrationError as error:
        raise CommandError(f"database: {error}") from None
    except postgres.MISCONFIGURED as error:
        raise CommandError(f"database {described(url)}: {error}") from None
    except ValueError as error:  # no URL of a database; asyncpg counts it among what may pass
        raise CommandError(f"setting database_url: {error}") from None
    except postgres.UNAVAILABLE:
        return None
    except postgres.PostgresError as error:
        raise CommandError(f"database {described(url)}: {error}") from None


async def prepare(url: str, settings: Settings, *, embedded: bool) -> FirstStart:
    """Bring the schema up to date and see that somebody can administrate. Raises what the store raises."""
    connection = await postgres.connect(direct_url(url, settings), timeout_s=CONNECT_TIMEOUT_S)
    try:
        await migrate.migrate(connection)
        admin_key = user = user_key = None
        if given := settings.admin_key.get_secret_value():
            await admin_keys.ensure_admin_key(connection, name="PROXY_ADMIN_KEY", key=given)
        elif embedded and not await admin_keys.any_admin_key(connection):
            _, admin_key = await people.create_admin_key(connection, name="first start")
        if embedded and (await people.list_users(connection, limit=1))[1] == 0:
            user = DEMO_USER if settings.demo_mode else FIRST_USER
            row = await people.create_user(connection, name=user)
            _, user_key = await people.create_key(connection, user_id=row["id"], name="first start")
        return FirstStart(admin_key, user, user_key)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


def direct_url(url: str, settings: Settings) -> str:
    """The database past a pooler, where one is set: the lock of migrations belongs to a session."""
    return settings.database_listen_url.get_secret_value() or url


def described(url: str) -> str:
    """The database without its password; with several addresses, all of them."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2] or 'local'}{parts.path}"


def greeting(first: FirstStart, url: str, *, simulated: bool) -> str:
    """What a person reads on the first start, and never again."""
    lines = ["", "First start. These keys are shown once; only their hashes are kept.", ""]
    if first.admin_key:
        lines.append(f"  Admin key:            {first.admin_key}")
    if first.user_key:
        lines.append(f"  Key of {first.user + ':' if first.user else '':<15}{first.user_key}")
        body = f'{{"model": "{EXAMPLE_MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        headers = f"-H 'Authorization: Bearer {first.user_key}' -H 'Content-Type: application/json'"
        lines += ["", "Try it (answers are simulated):" if simulated else "Try it:", ""]
        lines.append(f"  curl {url}/v1/chat/completions {headers} -d '{body}'")
    return os.linesep.join([*lines, ""])
