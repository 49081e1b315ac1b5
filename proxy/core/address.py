"""Whose request is it: the client's address, which a forwarding header says only when a trusted proxy wrote it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
HOPS_MAX = 32


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR form, or single addresses. Raises ValueError that names the one it can't read."""
    return tuple(ipaddress.ip_network(text.strip(), strict=False) for text in texts)


def client_address(peer: str, forwarded_for: str | None, trusted: Sequence[Network]) -> str:
    """The nearest address that is not one of our trusted proxies.

    `X-Forwarded-For` is read from the right, because each proxy appends who it heard from: what stands left of the first
    untrusted address was said by that client, who may say anything. A peer that is not an address (a Unix socket) is
    trusted when there are trusted proxies at all, since only our own host can connect to it.
    """
    if not trusted or not _is_trusted(peer, trusted):
        return peer
    nearest = peer
    for hop in reversed((forwarded_for or "").split(",")[-HOPS_MAX:]):
        text = hop.strip().removeprefix("[").split("]")[0]
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            break
        nearest = str(address)
        if not _is_trusted(nearest, trusted):
            break
    return nearest


def is_within(address: str, allowed: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks (CIDR). What is no address, such as a Unix socket's peer, does not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed.version == network.version and parsed in network for network in _networks(allowed))


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return networks(texts)


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return True
    return any(parsed.version == network.version and parsed in network for network in trusted)
