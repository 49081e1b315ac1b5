"""How the other side is found and reached."""

from __future__ import annotations

import pytest

from proxy.gateway.dial import EgressProxy, Origin, bypasses_proxy


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("https://api.openai.com", Origin("https", "api.openai.com", 443, ""), "api.openai.com"),
        ("https://api.openai.com/v1/", Origin("https", "api.openai.com", 443, ""), "api.openai.com"),
        ("http://localhost:9000/openai/v1", Origin("http", "localhost", 9000, "/openai"), "localhost:9000"),
        ("http://[::1]:80/", Origin("http", "::1", 80, ""), "[::1]"),
    ],
)
def test_a_url_is_an_origin_and_what_comes_before_v1(url, expected, authority):
    origin = Origin.parse(url)

    assert origin == expected
    assert origin.authority == authority


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        ("api.openai.com", "", False),
        ("api.openai.com", "*", True),
        ("api.openai.com", "example.com, openai.com", True),
        ("api.openai.com", ".openai.com", True),
        ("evilopenai.com", "openai.com", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16", False),
    ],
)
def test_no_proxy_names_hosts_suffixes_and_networks(host, no_proxy, bypassed):
    assert bypasses_proxy(host, no_proxy) is bypassed


def test_an_egress_proxy_may_want_a_password():
    egress = EgressProxy.parse("http://ana:s%40crt@egress.local:3128")

    assert (egress.host, egress.port) == ("egress.local", 3128)
    assert egress.authorization == b"Basic YW5hOnNAY3J0"


def test_an_egress_proxy_that_we_can_not_speak_to_is_named():
    with pytest.raises(ValueError, match="must be an http:// URL"):
        EgressProxy.parse("socks5://egress.local")
