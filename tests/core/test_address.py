"""Whose request it is: forwarding headers are believed of trusted proxies only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.address import HOPS_MAX, client_address, networks

TRUSTED = networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "10.1.1.1", "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2, 192.0.2.1", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::5]:443, 10.0.0.2", "2001:db8::5"),
        ("2001:db8::1", "2001:DB9::0001", "2001:db9::1"),
        ("unix", "203.0.113.7", "203.0.113.7"),
    ],
)
def test_the_nearest_address_that_is_not_ours(peer, forwarded_for, expected):
    assert client_address(peer, forwarded_for, TRUSTED) == expected


def test_without_trusted_proxies_the_header_says_nothing():
    assert client_address("unix", "203.0.113.7", ()) == "unix"
    assert client_address("127.0.0.1", "203.0.113.7", ()) == "127.0.0.1"


def test_a_long_header_is_read_to_a_bound():
    hops = ", ".join(["203.0.113.7"] + ["10.0.0.2"] * HOPS_MAX)

    assert client_address("10.0.0.1", hops, TRUSTED) == "10.0.0.2"


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="localhost"):
        networks(["localhost"])


@given(st.text())
def test_no_header_makes_it_raise(text):
    assert client_address("203.0.113.7", text, TRUSTED) == "203.0.113.7"
    client_address("10.0.0.1", text, TRUSTED)
