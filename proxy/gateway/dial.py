"""How a connection to an upstream is made: happy eyeballs, CONNECT through an egress proxy, TLS with verification.

Everything that can go wrong here is a DialError, whose text is safe to show to a client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs

HAPPY_EYEBALLS_DELAY_S = 0.25  # RFC 8305, section 5
CONNECT_REPLY_MAX_BYTES = 16 * 1024


class DialError(Exception):
    """No connection could be made. `code` is the error code of the 502 or 504 the client gets."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens. `prefix` is the path before /v1, "" at OpenAI."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Origin:
        """From an http(s) URL; a trailing `/v1` is not part of the prefix."""
        parts = urlsplit(url.rstrip("/").removesuffix("/v1"))
        assert parts.hostname, url
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy that CONNECTs us to the upstream."""

    host: str
    port: int
    authorization: bytes | None

    @classmethod
    def parse(cls, url: str) -> EgressProxy:
        """From `http://[user:password@]host:port`. Raises ValueError for any other scheme."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("the egress proxy must be an http:// URL")
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + base64.b64encode(pair.encode())
        return cls(parts.hostname, parts.port or 80, authorization)


def bypasses_proxy(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY (comma-separated suffixes, addresses, networks, or `*`) exempts this host."""
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if not entry:
            continue
        if entry == "*" or host == entry.lstrip(".") or host.endswith("." + entry.lstrip(".")):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies certificate and host name against the system's roots, or `ca_file`'s alone. HTTP/1.1 only."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Makes connections to one origin."""

    def __init__(
        self, origin: Origin, *, ca_file: Path | None, egress: EgressProxy | None, timeout_s: float
    ) -> None:
        self.origin = origin
        self._egress = egress
        self._timeout_s = timeout_s
        self._tls = tls_context(ca_file) if origin.scheme == "https" else None

    async def dial(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """A connected protocol. Raises DialError."""
        host = self.origin.host
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._dial(protocol)
        except TimeoutError:
            raise DialError("upstream_connect_timeout", f"Connecting to {host} timed out.") from None
        except ssl.SSLCertVerificationError as error:
            raise DialError(
                "upstream_tls_error", f"The certificate of {host} was not accepted: {error.verify_message}."
            ) from None
        except ssl.SSLError as error:
            raise DialError("upstream_tls_error", f"TLS with {host} failed: {error.reason}.") from None
        except socket.gaierror:
            raise DialError("upstream_unreachable", f"The name {host} could not be resolved.") from None
        except OSError as error:
            raise DialError(
                "upstream_unreachable",
                f"Connecting to {host} failed: {error.strerror or type(error).__name__}.",
            ) from None

    async def _dial(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        target = self._egress or self.origin
        addresses = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, interleave=1, loop=loop
        )
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._egress is not None:
                await self._connect_through(loop, sock, self._egress)
            _, connected = await loop.create_connection(
                protocol, sock=sock, ssl=self._tls, server_hostname=self.origin.host if self._tls else None
            )
        except BaseException:
            sock.close()
            raise
        return connected

    async def _connect_through(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, egress: EgressProxy
    ) -> None:
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        authority = f"{host}:{self.origin.port}".encode()
        request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (authority, authority)
        if egress.authorization is not None:
            request += b"Proxy-Authorization: %b\r\n" % egress.authorization
        await loop.sock_sendall(sock, request + b"\r\n")
        reply = b""
        while b"\r\n\r\n" not in reply:
            # One byte at a time at the end would be slow, but a CONNECT answer has no body and the upstream speaks
            # only after us, so nothing beyond the head can arrive.
            data = await loop.sock_recv(sock, 4096)
            if not data or len(reply) > CONNECT_REPLY_MAX_BYTES:
                raise DialError("upstream_unreachable", "The egress proxy closed the connection.")
            reply += data
        status = reply.split(b" ", 2)[1][:3] if reply.startswith(b"HTTP/1.") else b"???"
        if not status.startswith(b"2"):
            raise DialError(
                "upstream_unreachable",
                f"The egress proxy refused to connect to {self.origin.host}: status {status.decode('latin-1')}.",
            )
