"""What crosses the proxy crosses as it came; credentials, hop-by-hop headers and our own don't."""

from __future__ import annotations

from proxy.core.headers import HeaderPolicy, policy_value, request_head, token_of

POLICY = HeaderPolicy(b"api.openai.com", b"Bearer sk-real", b"sk-real")


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_names_keep_their_case_order_and_duplicates():
    headers = [
        (b"X-B", b"1"),
        (b"HOST", b"localhost"),
        (b"x-a", b""),
        (b"X-B", b"2"),
        (b"authorization", b"Bearer k"),
    ]

    head = request_head(b"POST", b"/v1/x?a=%20b", headers, POLICY)

    assert lines(head) == [
        b"POST /v1/x?a=%20b HTTP/1.1",
        b"X-B: 1",
        b"HOST: api.openai.com",
        b"x-a: ",
        b"X-B: 2",
        b"authorization: Bearer sk-real",
    ]


def test_hop_by_hop_and_own_headers_stay_behind():
    headers = [
        (b"Host", b"a"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"5"),
        (b"TE", b"trailers"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"x"),
        (b"X-Usage-Operation", b"x"),
        (b"X-Usage-User", b"x"),
        (b"Authorization", b"Bearer k"),
        (b"api-key", b"k"),
    ]

    head = request_head(b"GET", b"/v1/models", headers, POLICY)

    assert lines(head) == [
        b"GET /v1/models HTTP/1.1",
        b"Host: api.openai.com",
        b"Authorization: Bearer sk-real",
    ]


def test_connection_can_not_take_the_bodys_description_away():
    headers = [
        (b"Host", b"a"),
        (b"Connection", b"content-type, content-length"),
        (b"Content-Type", b"a/b"),
        (b"Content-Length", b"3"),
    ]

    head = request_head(b"POST", b"/v1/x", headers, POLICY)

    assert b"Content-Type: a/b\r\nContent-Length: 3\r\n" in head


def test_a_client_without_host_or_authorization_header_still_gets_both_upstream():
    head = request_head(b"GET", b"/v1/models", [(b"api-key", b"k")], POLICY)

    assert lines(head) == [
        b"GET /v1/models HTTP/1.1",
        b"Host: api.openai.com",
        b"Authorization: Bearer sk-real",
    ]


def test_without_an_upstream_key_no_credential_leaves():
    policy = HeaderPolicy(b"up", None, b"")

    head = request_head(
        b"GET", b"/v1/models", [(b"Authorization", b"Bearer sk-proxy"), (b"api-key", b"x")], policy
    )

    assert lines(head) == [b"GET /v1/models HTTP/1.1", b"Host: up"]


def test_a_spliced_request_has_its_new_length_and_asks_for_plain_bytes():
    headers = [
        (b"Host", b"a"),
        (b"Content-Length", b"10"),
        (b"Accept-Encoding", b"gzip, br"),
        (b"Authorization", b"x"),
    ]

    head = request_head(b"POST", b"/v1/x", headers, POLICY, length=55, identity=True)

    assert b"Content-Length: 55\r\nAccept-Encoding: identity\r\n" in head


def test_organization_and_project_are_kept_set_or_stripped():
    headers = [(b"OpenAI-Organization", b"org-client"), (b"OpenAI-Project", b"proj-client")]

    def heads(setting):
        policy = HeaderPolicy(b"up", None, b"", policy_value(setting), policy_value(setting))
        return [line for line in lines(request_head(b"GET", b"/v1/x", headers, policy)) if b"OpenAI" in line]

    assert heads("keep") == [b"OpenAI-Organization: org-client", b"OpenAI-Project: proj-client"]
    assert heads("strip") == []
    assert heads("acme") == [b"OpenAI-Organization: acme", b"OpenAI-Project: acme"]


def test_the_subprotocols_key_is_swapped_and_no_header_added():
    offered = b"realtime, openai-insecure-api-key.sk-proxy-x, openai-beta.realtime-v1"

    head = request_head(
        b"GET",
        b"/v1/realtime",
        [(b"Host", b"a"), (b"Sec-WebSocket-Protocol", offered)],
        POLICY,
        websocket=True,
    )

    assert lines(head) == [
        b"GET /v1/realtime HTTP/1.1",
        b"Host: api.openai.com",
        b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-real, openai-beta.realtime-v1",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]


def test_the_credential_is_found_in_each_of_its_forms():
    assert token_of({b"authorization": b"Bearer  k1 "}) == b"k1"
    assert token_of({b"authorization": b"bearer k1"}) == b"k1"
    assert token_of({b"authorization": b"Basic k1"}) == b""
    assert token_of({b"api-key": b"k2"}) == b"k2"
    assert token_of({b"sec-websocket-protocol": b"realtime, openai-insecure-api-key.k3"}) == b"k3"
    assert token_of({}) == b""
