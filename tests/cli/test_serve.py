"""`openai-proxy serve` from outside: first start and second, stopping, dying, and what a person must mend."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from proxy.build import build
from proxy.store.embedded import EmbeddedPostgres
from tests.cli.serving import DEADLINE_S, Serving, command, processes_naming, wait_until

KEY = re.compile(r"sk-proxy-[0-9A-Za-z]{46}")
ADMIN_KEY = re.compile(r"sk-admin-[0-9A-Za-z]{46}")


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a command that a person must help; nothing else may be there."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if " info " not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("openai-proxy: ")
    return lines[0].removeprefix("openai-proxy: ")


def test_a_newcomer_starts_it_pastes_the_curl_line_stops_it_and_starts_again(data: Path):
    with Serving.running(data) as first:
        shown = first.log()
        pasted = next(line.strip() for line in shown.splitlines() if line.strip().startswith("curl "))
        answer = subprocess.run(
            ["bash", "-c", f"{pasted} -s -i"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
        ).stdout
        head, body = answer.replace("\r\n", "\n").split("\n\n", 1)
        assert head.startswith("HTTP/1.1 200")
        assert "openai-proxy-simulated: true" in head
        assert json.loads(body)["usage"]["total_tokens"] > 0
        assert "DEMO MODE" in shown
        assert f" build={build()} " in shown
        (admin_key,), (key, again) = ADMIN_KEY.findall(shown), KEY.findall(shown)
        assert key == again
        assert first.get("/admin/stats", admin_key)[0] == 200
        first.press_ctrl_c()
        assert first.end() == 0
        assert "Traceback" not in first.log()
    assert processes_naming(str(data)) == []
    assert data.stat().st_mode & 0o066 == 0
    with Serving.running(data) as second:
        assert KEY.search(second.log()) is None
        assert ADMIN_KEY.search(second.log()) is None
        status, me = second.get("/me", key)
        assert status == 200, me
        assert second.get("/admin/stats", admin_key)[0] == 200
        second.process.send_signal(signal.SIGTERM)
        assert second.end() == 0


def test_workers_die_are_replaced_drain_and_reload(data: Path):
    config = data.with_name("config.toml")
    config.write_text('log_level = "info"\nworkers = 2\n')
    with Serving.running(data, workers=2, config=config) as serving:
        key = KEY.search(serving.log())[0]
        before = serving.workers()
        os.kill(before[0], signal.SIGKILL)
        serving.wait_for_log("worker ready", 3)
        wait_until(lambda: len(serving.workers()) == 2, "a new worker")
        assert before[0] not in serving.workers()
        wait_until(lambda: serving.metric("worker_exits_total") == 1, "the count of ended workers")
        assert serving.metric("workers") == 2

        config.write_text('log_level = "debug"\nworkers = 1\n')
        reloaded = command("reload", data=data)
        assert reloaded.stdout == f"server {serving.process.pid} reloads its settings\n", reloaded.stderr
        serving.wait_for_log("worker ready", 4)
        wait_until(lambda: len(serving.workers()) == 1, "the old workers' end")
        assert serving.get("/v1/models", key)[0] == 200
        config.write_text('log_level = "loud"\n')
        serving.process.send_signal(signal.SIGHUP)
        serving.wait_for_log("reload: setting log_level")
        assert serving.get("/v1/models", key)[0] == 200

        asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Tell me"}]}
        request = urllib.request.Request(
            f"{serving.url}/v1/chat/completions",
            json.dumps(asked).encode(),
            {"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            first_line = answer.readline()
            serving.process.send_signal(signal.SIGTERM)
            rest = answer.read()
        assert first_line.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert serving.end() == 0
        assert "Traceback" not in serving.log()
    assert processes_naming(str(data)) == []


def test_a_killed_supervisor_takes_its_workers_along_and_the_next_start_takes_over(data: Path):
    with Serving.running(data) as first:
        key = KEY.search(first.log())[0]
        os.kill(first.process.pid, signal.SIGKILL)
        first.end()
        wait_until(lambda: not processes_naming(f"--parent {first.process.pid}"), "the simulator's end")
    with Serving.running(data) as second:
        assert "of an unclean stop taken over" in second.log()
        assert second.get("/me", key)[0] == 200


def test_a_postgres_that_dies_is_started_again(data: Path):
    with Serving.running(data) as serving:
        pid = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        serving.wait_for_log("embedded Postgres ended and is started again")
        wait_until(lambda: serving.get("/readyz")[0] == 200, "/readyz")


def test_a_second_server_on_the_same_data_is_refused_and_commands_find_the_first(data: Path):
    with Serving.running(data) as serving:
        assert complaint(command("serve", data=data)) == (
            f"data directory {data} is in use by process {serving.process.pid} (openai-proxy serve): "
            "stop it or set PROXY_DATA_DIR"
        )
        assert command("migrate", data=data).stdout == "the database is up to date\n"


def test_a_port_in_use_is_one_line(data: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = complaint(command("serve", data=data, port=port))
    assert line == f"port {port} on 127.0.0.1 is in use: stop what uses it or set PROXY_PORT"
    assert not data.exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"port": 99999}, "setting port: Input should be less than or equal to 65535"),
        ({"prot": 1}, "unknown setting PROXY_PROT in the environment"),
        ({"config": "none.toml"}, "config file none.toml does not exist"),
        ({"host": "no.such.host.invalid"}, "setting host: no.such.host.invalid: "),
        ({"host": "192.0.2.1"}, "192.0.2.1 is no address of this machine: set PROXY_HOST"),
        ({"admin_key": "short"}, "setting admin_key: must have at least 16 characters"),
        ({"tls_cert_file": "a.pem"}, "tls_cert_file and tls_key_file belong together"),
        ({"tls_cert_file": "a.pem", "tls_key_file": "b.pem"}, "TLS certificate a.pem: No such file"),
    ],
)
def test_a_bad_setting_is_one_line(data: Path, settings: dict[str, object], line: str):
    assert complaint(command("serve", data=data, **settings)).startswith(line)


def test_a_data_directory_that_can_not_be_made_is_one_line(data: Path):
    (data.parent / "file").write_text("")
    line = complaint(command("serve", data=data, data_dir=data.parent / "file" / "data"))
    assert line == f"data directory {data.parent}/file/data: Not a directory"


def test_wrong_credentials_and_an_unknown_database_are_one_line(data: Path, postgres_server: str):
    unknown = postgres_server.replace("/postgres?", "/nowhere?")
    line = complaint(command("serve", data=data, database_url=unknown))
    assert line.endswith('database "nowhere" does not exist')
    stranger = postgres_server.replace("//postgres:@", "//stranger:secret@")
    line = complaint(command("serve", data=data, database_url=stranger))
    assert line.endswith('role "stranger" does not exist')
    assert "secret" not in line


def test_a_database_that_is_away_is_prepared_when_it_comes(data: Path):
    data.parent.joinpath("other").mkdir()
    elsewhere = EmbeddedPostgres(data.parent / "other")
    url = elsewhere.start()
    elsewhere.stop()
    try:
        with Serving.running(
            data, ready=False, database_url=url, admin_key="sk-admin-of-this-test"
        ) as serving:
            assert serving.get("/healthz")[0] == 200
            assert serving.get("/readyz")[0] == 503
            elsewhere.start()
            wait_until(lambda: serving.get("/readyz")[0] == 200, "/readyz")
            wait_until(
                lambda: serving.get("/admin/stats", "sk-admin-of-this-test")[0] == 200, "the admin key"
            )
    finally:
        elsewhere.stop()


def test_workers_that_can_not_start_end_the_server(data: Path, database_url: str):
    serving = Serving(
        data,
        workers=2,
        database_url=database_url,
        upstream_url="https://upstream.invalid",
        upstream_ca_file=data.parent / "none.pem",
    )
    try:
        assert serving.end() == 1, serving.log()
        assert "worker can't start: " in serving.log()
        assert "Traceback" not in serving.log()
    finally:
        serving.kill()
