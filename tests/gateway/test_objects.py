"""Objects of the shared account through a started proxy with two workers: billed once, to their maker, and kept apart."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import zstandard

from tests.account import RESPONSE_USAGE, Account
from tests.fake_upstream import FakeUpstream, answer, close
from tests.openai_answers import dumps, plain
from tests.proxy_process import Person, ProxyProcess, Reply, wait_until
from tests.raw_client import RawClient
from tests.shared_account import shared
from tests.signals import DEADLINE_S
from tests.wire import head

ASKED = {"model": "gpt-4o-mini", "input": "Hello"}
PRICE_NANOUSD = 1000 * 150 + 200 * 600  # gpt-4o-mini: $0.15 and $0.60 a million


@dataclass(frozen=True, slots=True)
class House:
    """A proxy, the account behind it, and people whom no test has used yet."""

    proxy: ProxyProcess
    account: Account
    upstream: FakeUpstream
    people: list[Person]

    def someone(self) -> Person:
        if not self.people:
            self.people.extend(self.proxy.people(12))
        return self.people.pop()

    def ask(self, who: Person | str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        key = who if isinstance(who, str) else who.key
        return self.proxy.request(method, path, body, key, **headers)

    def make(self, who: Person, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        reply = self.ask(who, "POST", path, body or {}, **headers)
        assert reply.status < 300, reply.body
        return reply.body

    def records(self, who: Person, count: int) -> list[dict[str, Any]]:
        return asyncio.run(self.proxy.records(count, user_id=who.user_id))

    def stored(self, object_id: str) -> None:
        """Wait until every worker can find out who made it."""
        wait_until(
            lambda: bool(self.proxy.query("select from objects where id = $1", object_id)), "the owner"
        )


@pytest.fixture(scope="module")
def house(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with shared(postgres_server, tmp_path_factory.mktemp("objects")) as (proxy, upstream, account):
        yield House(proxy, account, upstream, [])


# billed once


def test_a_response_that_is_read_again_is_billed_once(house: House) -> None:
    ana = house.someone()
    made = house.make(ana, "/v1/responses", ASKED)
    for _ in range(8):
        assert house.ask(ana, "GET", f"/v1/responses/{made['id']}").body == made
    assert house.ask(ana, "POST", f"/v1/responses/{made['id']}/cancel").status == 200
    records = house.records(ana, 10)
    assert [record["total_tokens"] for record in records] == [1200] + [0] * 9
    assert [record["cost_nanousd"] for record in records] == [PRICE_NANOUSD] + [0] * 9
    assert [record["usage_source"] for record in records] == ["reported"] + ["none"] * 9


def test_background_work_is_billed_once_to_its_maker_however_many_ask_at_once(house: House) -> None:
    ana = house.someone()
    phone = house.proxy.key_of(ana.user_id)
    made = house.make(ana, "/v1/responses", ASKED | {"background": True}, x_usage_operation="essay")
    house.stored(made["id"])
    assert house.ask(phone, "GET", f"/v1/responses/{made['id']}").body["status"] == "queued"
    house.account.finish(made["id"])

    def poll(_: int) -> Reply:
        return house.ask(phone, "GET", f"/v1/responses/{made['id']}", x_usage_operation="poll")

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(poll, range(16)))
    assert {reply.body["usage"]["total_tokens"] for reply in replies} == {1200}
    records = house.records(ana, 18)
    billed = [record for record in records if record["usage_source"] == "reported"]
    assert [(record["total_tokens"], record["cost_nanousd"]) for record in billed] == [(1200, PRICE_NANOUSD)]
    assert (billed[0]["key_id"], billed[0]["operation"]) == (ana.key_id, "essay")
    assert {(record["key_id"], record["operation"]) for record in records[2:] if record not in billed} == {
        (phone.key_id, "poll")
    }
    (month,) = house.proxy.query(
        "select sum(total_tokens)::bigint as tokens, sum(cost_nanousd)::bigint as cost from usage_hourly"
        " where user_id = $1",
        ana.user_id,
    )
    assert (month["tokens"], month["cost"]) == (1200, PRICE_NANOUSD)


def test_a_batch_counts_against_the_quota_of_its_maker_when_it_is_done(house: House) -> None:
    quotas = [{"unit": "tokens", "window": "month", "limit": "500000"}]
    ana = house.proxy.person("Ana", quotas=quotas)
    made = house.make(ana, "/v1/batches", {"input_file_id": "file-x", "endpoint": "/v1/responses"})
    house.account.finish(made["id"])
    for _ in range(3):
        house.ask(ana, "GET", f"/v1/batches/{made['id']}")
    records = house.records(ana, 4)
    assert sum(record["total_tokens"] for record in records) == 120_000
    (billed,) = [record for record in records if record["total_tokens"]]
    assert (billed["service_tier"], json.loads(billed["units"])) == ("batch", {"requests": 100})
    assert billed["cost_nanousd"] == (100_000 * 150 + 20_000 * 600) // 2
    wait_until(
        lambda: house.proxy.admin("GET", f"/admin/users/{ana.user_id}/quotas")["data"][0]["used"] == "120000",
        "the batch in its maker's quota",
    )


def test_a_run_a_video_and_a_chat_that_is_stored_are_billed_once(house: House) -> None:
    ana = house.someone()
    run = house.make(ana, "/v1/threads/runs", {"assistant_id": "asst_unknown"})
    video = house.make(ana, "/v1/videos", {"model": "sora-2"})
    chat = house.make(ana, "/v1/chat/completions", {"model": "gpt-4o-mini", "messages": [], "store": True})
    house.account.finish(run["id"])
    house.account.finish(video["id"])
    for path in (
        f"/v1/threads/{run['thread_id']}/runs/{run['id']}",
        f"/v1/videos/{video['id']}",
        f"/v1/chat/completions/{chat['id']}",
    ):
        assert [house.ask(ana, "GET", path).status for _ in range(2)] == [200, 200]
    records = house.records(ana, 9)
    assert sorted(record["total_tokens"] for record in records if record["total_tokens"]) == [10, 60]
    assert [record["units"] for record in records if record["units"] != "{}"] == ['{"video_ms": 4000}']


def test_a_container_that_several_responses_ran_in_is_paid_for_once(house: House) -> None:
    ana = house.someone()
    tool = {"type": "code_interpreter", "container": {"type": "auto"}}
    for _ in range(3):
        house.make(ana, "/v1/responses", ASKED | {"tools": [tool]})
    found = "select cost_nanousd, part from usage_records where user_id = $1 order by part, cost_nanousd desc"
    wait_until(
        lambda: sum(row["part"] is None for row in house.proxy.query(found, ana.user_id)) == 3,
        "three records",
    )
    *containers, one, two, three = house.proxy.query(found, ana.user_id)
    assert [each["cost_nanousd"] for each in (one, two, three)] == [PRICE_NANOUSD] * 3
    # a worker that does not know yet what another one billed records that it used nothing
    assert [each["cost_nanousd"] for each in containers] == [30_000_000, 0, 0][: len(containers)]
    assert {each["part"] for each in containers} == {"container"}


def test_a_server_that_numbers_every_response_alike_is_billed_for_each(house: House) -> None:
    ana = house.someone()
    same = {
        "id": "resp_alike",
        "object": "response",
        "model": "gpt-4o-mini",
        "status": "completed",
        "usage": RESPONSE_USAGE,
    }
    house.account.objects["resp_alike"] = same
    house.upstream.script(*[answer(*plain(dumps(same)))] * 3)
    for _ in range(3):
        house.make(ana, "/v1/responses", ASKED)
    house.ask(ana, "GET", "/v1/responses/resp_alike")
    assert [record["total_tokens"] for record in house.records(ana, 4)] == [1200, 1200, 1200, 0]


def test_a_request_with_an_idempotency_key_that_is_repeated_is_billed_once(house: House) -> None:
    ana = house.someone()
    same = {"id": "resp_idem", "object": "response", "status": "completed", "usage": RESPONSE_USAGE}
    house.upstream.script(*[answer(*plain(dumps(same)))] * 2)
    for _ in range(2):
        house.make(ana, "/v1/responses", ASKED, idempotency_key="once")
    assert sorted(record["total_tokens"] for record in house.records(ana, 2)) == [0, 1200]


# kept apart


@pytest.mark.parametrize(
    ("make", "read"),
    [
        ("/v1/responses", "/v1/responses/{id}"),
        ("/v1/responses", "/v1/responses/{id}/input_items"),
        ("/v1/files", "/v1/files/{id}/content"),
        ("/v1/files", "/v1//files/%66ile-{number}"),
        ("/v1/batches", "/v1/batches/{id}"),
        ("/v1/conversations", "/v1/conversations/{id}/items"),
        ("/v1/videos", "/v1/videos/{id}/content"),
    ],
)
def test_what_somebody_else_made_does_not_exist(house: House, make: str, read: str) -> None:
    ana, bob = house.someone(), house.someone()
    made = house.make(ana, make, ASKED)
    house.stored(made["id"])
    path = read.format(id=made["id"], number=made["id"].rpartition("-")[2])
    before = len(house.upstream.requests)
    for _ in range(4):  # either worker
        reply = house.ask(bob, "GET", path)
        assert reply.status == 404
        assert reply.body["error"]["type"] == "invalid_request_error"
        assert made["id"] in reply.body["error"]["message"]
    assert len(house.upstream.requests) == before
    assert house.ask(ana, "GET", path).status == 200
    refused = house.records(bob, 4)
    assert {(record["outcome"], record["status"]) for record in refused} == {("refused", 404)}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"previous_response_id": "{resp}"}),
        ("/v1/responses", {"conversation": "{conv}"}),
        ("/v1/responses", {"conversation": {"id": "{conv}"}}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "{file}"}]}]}),
        ("/v1/responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["{file}"]}}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "{file}"}}]}]}),
        ("/v1/batches", {"input_file_id": "{file}"}),
    ],
)  # fmt: skip
def test_what_somebody_else_made_can_not_be_used_in_a_request(
    house: House, path: str, body: dict[str, Any]
) -> None:
    ana, bob = house.someone(), house.someone()
    made = {
        "resp": house.make(ana, "/v1/responses", ASKED)["id"],
        "conv": house.make(ana, "/v1/conversations")["id"],
        "file": house.make(ana, "/v1/files")["id"],
    }
    for each in made.values():
        house.stored(each)
    text = json.dumps({"model": "gpt-4o-mini", **body})
    for name, object_id in made.items():
        text = text.replace("{" + name + "}", object_id)
    before = len(house.upstream.requests)
    assert house.ask(bob, "POST", path, json.loads(text)).status == 404
    assert len(house.upstream.requests) == before
    assert house.ask(ana, "POST", path, json.loads(text)).status == 200


def form(name: str, value: str) -> bytes:
    junk = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\ny\r\n' % number for number in range(99)
    )
    video = b'--x\r\nContent-Disposition: form-data; name="video"; filename="v.mp4"\r\n\r\n\0\0\0\r\n'
    last = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--x--\r\n'
    return junk + video + last.encode()


RAW: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "a name that is escaped": ("/v1/responses", lambda file: b'{"prompt":{},"input":[{"file\\u005fi\\u0064":"%b"}]}' % file.encode()),
    "another encoding": ("/v1/responses", lambda file: f'{{"input":[{{"file_id":"{file}"}}]}}'.encode("utf-16")),
    "beside an id that can't be": ("/v1/responses", lambda file: b'{"input":[{"file_id":"\\u0000"},{"file_id":"%b"}]}' % file.encode()),
    "beside half a surrogate pair": ("/v1/responses", lambda file: b'{"input":[{"file_id":"\\ud800"},{"file_id":"%b"}]}' % file.encode()),
    "beside a number beyond floats": ("/v1/responses", lambda file: b'{"temperature":1e400,"input":[{"file_id":"%b"}]}' % file.encode()),
    "behind many others": ("/v1/responses", lambda file: json.dumps({"input": [{"file_id": f"file-x{n}"} for n in range(4000)] + [{"file_id": file}]}).encode()),
    "compressed": ("/v1/responses", lambda file: gzip.compress(f'{{"input":[{{"file_id":"{file}"}}]}}'.encode())),
    "a form": ("/v1/videos/edits", lambda file: form("video[id]", file)),
    "a form of another name": ("/v1/videos", lambda file: form("input_reference[file_id]", file)),
}  # fmt: skip


@pytest.mark.parametrize("way", RAW)
def test_no_way_of_writing_gets_around_whose_an_object_is(house: House, way: str) -> None:
    path, write = RAW[way]
    ana, bob = house.someone(), house.someone()
    made = house.make(ana, "/v1/files")["id"]
    house.stored(made)
    body = write(made)
    lines = {"content-type": "application/json"}
    if "form" in way:
        lines["content-type"] = "multipart/form-data; boundary=x"
    elif way == "compressed":
        lines["content-encoding"] = "gzip"

    def ask(who: Person) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", house.proxy.port, timeout=DEADLINE_S)
        try:
            connection.request("POST", path, body, lines | {"authorization": f"Bearer {who.key}"})
            return connection.getresponse().status
        finally:
            connection.close()

    before = len(house.upstream.requests)
    assert [ask(bob) for _ in range(3)] == [404] * 3  # either worker
    assert len(house.upstream.requests) == before
    ask(ana)
    assert len(house.upstream.requests) == before + 1
    assert bytes(house.upstream.requests[-1].body) == body


def wide(body: bytes) -> bytes:
    """Zstandard with a window wider than is allocated for anybody."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("coding", "write", "code"),
    [("zstd", wide, "unreadable_encoding"), ("gzip", bytes, "unreadable_encoding"), ("x-own", bytes, None)],
)
def test_a_label_that_says_nothing_of_the_body_gets_around_nothing(
    house: House, coding: str, write: Callable[[bytes], bytes], code: str | None
) -> None:
    ana, bob = house.someone(), house.someone()
    made = house.make(ana, "/v1/files")["id"]
    house.stored(made)
    body = write(b'{"input":[{"file_id":"%b"}]}' % made.encode())
    lines = {"content-type": "application/json", "content-encoding": coding}
    before = len(house.upstream.requests)
    connection = http.client.HTTPConnection("127.0.0.1", house.proxy.port, timeout=DEADLINE_S)
    connection.request("POST", "/v1/responses", body, lines | {"authorization": f"Bearer {bob.key}"})
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["error"]["code"]) == (415 if code else 404, code)
    connection.close()
    assert len(house.upstream.requests) == before


def test_a_socket_may_have_a_query_of_any_length(house: House) -> None:
    reply = house.ask(house.someone(), "GET", "/v1/realtime?call_id=rtc_1" + "&x=1" * 100)
    assert reply.status != 500


def test_a_request_that_names_more_objects_than_are_looked_at_is_refused(house: House) -> None:
    asked = {"input": [{"file_id": f"file-x{number}"} for number in range(5001)]}
    reply = house.ask(house.someone(), "POST", "/v1/responses", asked)
    assert (reply.status, reply.body["error"]["code"]) == (400, "too_many_objects")


def test_what_nobody_made_here_is_passed_on(house: House) -> None:
    ana = house.someone()
    assert (
        house.ask(ana, "GET", "/v1/responses/resp_from_before").body["error"]["message"].startswith("Nothing")
    )
    house.account.objects["file-old"] = {"id": "file-old", "object": "file"}
    assert house.ask(ana, "GET", "/v1/files/file-old").body == {"id": "file-old", "object": "file"}


def test_the_output_of_a_batch_belongs_to_its_maker(house: House) -> None:
    ana, bob = house.someone(), house.someone()
    made = house.make(ana, "/v1/batches", {"input_file_id": "file-x"})
    house.account.finish(made["id"])
    output = house.ask(ana, "GET", f"/v1/batches/{made['id']}").body["output_file_id"]
    house.stored(output)
    assert house.ask(bob, "GET", f"/v1/files/{output}/content").status == 404
    assert house.ask(ana, "GET", f"/v1/files/{output}/content").status == 200


# lists


def test_a_list_shows_each_their_own_and_nothing_else_is_touched(house: House) -> None:
    ana, bob = house.someone(), house.someone()
    files = [house.make(who, "/v1/files")["id"] for who in (ana, bob, ana, bob, ana)]
    for each in files:
        house.stored(each)
    of_ana = [files[4], files[2], files[0]]
    reply = house.ask(ana, "GET", "/v1/files?limit=5", accept_encoding="gzip")
    assert [each["id"] for each in reply.body["data"]] == of_ana
    assert (reply.body["first_id"], reply.body["last_id"]) == (of_ana[0], of_ana[2])
    assert house.upstream.requests[-1].head.all(b"accept-encoding") == [b"identity"]
    reply = house.ask(bob, "GET", "/v1/files?limit=5")
    assert [each["id"] for each in reply.body["data"]] == [files[3], files[1]]


def test_a_page_of_foreign_objects_does_not_end_the_list(house: House) -> None:
    ana, bob = house.someone(), house.someone()
    own = house.make(ana, "/v1/videos", {"model": "sora-2"})["id"]
    others = [house.make(bob, "/v1/videos", {"model": "sora-2"})["id"] for _ in range(7)]
    for each in (own, *others):
        house.stored(each)
    page = house.ask(ana, "GET", "/v1/videos?limit=3").body
    assert [each["id"] for each in page["data"]] == [own]


# client secrets


def test_a_client_secret_stands_for_whoever_asked_for_it_in_every_worker(house: House) -> None:
    ana = house.someone()
    secret = house.make(ana, "/v1/realtime/client_secrets", {"session": {"type": "realtime"}})["value"]
    for _ in range(6):
        reply = house.proxy.request("POST", "/v1/realtime/calls", None, secret)
        assert reply.status == 201, reply.body
        assert house.upstream.requests[-1].head.all(b"authorization") == [b"Bearer " + secret.encode()]
    records = house.records(ana, 7)
    assert {record["user_id"] for record in records} == {ana.user_id}
    assert [record["endpoint"] for record in records[1:]] == ["/v1/realtime/calls"] * 6
    assert {record["cost_nanousd"] for record in records[1:]} == {None}  # what it uses goes past the proxy
    assert not house.proxy.query("select from objects where id like '%' || $1 || '%'", secret)


def test_a_client_secret_from_elsewhere_or_past_its_time_is_refused(house: House) -> None:
    ana = house.someone()
    assert house.proxy.request("POST", "/v1/realtime/calls", None, "ek_made_elsewhere").status == 401
    house.account.expires_at = 1_700_000_000
    secret = house.make(ana, "/v1/realtime/client_secrets", {"session": {}})["value"]
    house.account.expires_at = 4_000_000_000
    for _ in range(4):
        reply = house.proxy.request("POST", "/v1/realtime/calls", None, secret)
        assert (reply.status, reply.body["error"]["code"]) == (401, "invalid_api_key")


def test_a_call_belongs_to_whoever_began_it(house: House) -> None:
    ana, bob = house.someone(), house.someone()
    reply = house.ask(ana, "POST", "/v1/realtime/calls")
    call = reply.headers["location"].rpartition("/")[2]
    house.stored(call)
    assert house.ask(bob, "POST", f"/v1/realtime/calls/{call}/hangup").status == 404
    assert house.ask(ana, "POST", f"/v1/realtime/calls/{call}/hangup").status == 200


async def test_a_browser_opens_a_realtime_socket_with_its_secret(house: House) -> None:
    ana = await asyncio.to_thread(house.someone)
    made = await asyncio.to_thread(house.make, ana, "/v1/realtime/client_secrets", {"session": {}})
    secret = made["value"].encode()
    offered = b"realtime, openai-insecure-api-key." + secret
    switched = (b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")
    house.upstream.script(answer(head(*switched, b"Sec-WebSocket-Protocol: realtime"), close))
    async with RawClient.connected(house.proxy.port) as client:
        await client.send(
            head(
                b"GET /v1/realtime?model=gpt-realtime HTTP/1.1",
                b"Host: proxy.example",
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                b"Sec-WebSocket-Protocol: " + offered,
            )
        )
        assert (await client.answer_head()).status == 101
        assert await client.ended()
    sent = house.upstream.requests[-1].head
    assert sent.all(b"sec-websocket-protocol") == [offered]
    assert sent.all(b"authorization") == []
    records = await house.proxy.records(2, user_id=ana.user_id)
    assert [(record["endpoint"], record["key_id"]) for record in records] == [
        ("/v1/realtime/client_secrets", ana.key_id),
        ("/v1/realtime", ana.key_id),
    ]
