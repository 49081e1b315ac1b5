"""A certificate authority that exists for one test session: servers for localhost, and clients that trust only it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """A throw-away CA. `ca_file` is what PROXY_UPSTREAM_CA_FILE takes."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = directory / "test-ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        self._directory = directory

    def server(self, *names: str) -> ssl.SSLContext:
        """A server's context for these names; without any, for localhost and 127.0.0.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        return context

    def files(self, *names: str) -> tuple[Path, Path]:
        """(certificate chain, private key) as PEM files, for a server that wants paths."""
        issued = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")))
        certificate, key = self._directory / "server.pem", self._directory / "server.key"
        for at, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(certificate), append=at > 0)
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context
