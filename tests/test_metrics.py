"""/metrics: what Prometheus reads, over one process and over many, while workers come and go."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import Metrics, fold_ended, prepare_directory


def samples(rendered: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus would store: (name, labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(rendered.decode())
        for sample in family.samples
    }


def other_process(directory: Path, metrics: Metrics, pid: int) -> None:
    """Write the numbers as the worker with this process id would."""
    snapshot = metrics.snapshot() | {"id": f"{pid}-1"}
    (directory / f"{pid}.json").write_bytes(orjson.dumps(snapshot))


def test_every_name_carries_the_prefix_and_is_declared_once():
    metrics = Metrics()
    declared = [each for each in vars(metrics).values() if hasattr(each, "kind")]
    assert len(metrics.instruments) == len(declared) > 30
    assert all(name.startswith("openai_proxy_") for name in metrics.instruments)


def test_user_and_key_ids_are_never_labels():
    labels = {label for each in Metrics().instruments.values() for label in each.labels}
    assert not {label for label in labels if "user" in label or "key" in label}


def test_prometheus_can_read_what_is_rendered():
    metrics = Metrics(simulated=True)
    metrics.requests.inc(("/v1/responses", 'gpt "4o"\\', "2xx", "success"))
    metrics.cost.inc(("gpt-4o",), 2_500_000_000)
    metrics.exchanges_in_flight.add((), 3)
    metrics.ttfb_seconds.observe(("/v1/responses", "gpt-4o"), 0.03)
    metrics.ttfb_seconds.observe(("/v1/responses", "gpt-4o"), 999.0)
    found = samples(metrics.render())
    labels = (
        ("endpoint", "/v1/responses"),
        ("model", 'gpt "4o"\\'),
        ("outcome", "success"),
        ("status_class", "2xx"),
    )
    assert found["openai_proxy_requests_total", labels] == 1
    assert found["openai_proxy_cost_usd_total", (("model", "gpt-4o"),)] == 2.5
    assert found["openai_proxy_exchanges_in_flight", ()] == 3
    assert found["openai_proxy_simulated", ()] == 1
    ttfb = (("endpoint", "/v1/responses"), ("model", "gpt-4o"))
    assert found["openai_proxy_ttfb_seconds_count", ttfb] == 2
    assert found["openai_proxy_ttfb_seconds_bucket", (*ttfb[:1], ("le", "0.025"), *ttfb[1:])] == 0
    assert found["openai_proxy_ttfb_seconds_bucket", (*ttfb[:1], ("le", "0.05"), *ttfb[1:])] == 1
    assert found["openai_proxy_ttfb_seconds_bucket", (*ttfb[:1], ("le", "320.0"), *ttfb[1:])] == 1
    assert found["openai_proxy_ttfb_seconds_bucket", (*ttfb[:1], ("le", "+Inf"), *ttfb[1:])] == 2


def test_workers_are_summed_and_facts_are_not(tmp_path: Path):
    mine, theirs = Metrics(tmp_path), Metrics(tmp_path)
    for metrics, count in ((mine, 2), (theirs, 5)):
        metrics.tokens.inc(("input", "gpt-4o"), count)
        metrics.streams_open.set((), count)
    mine.ready.set((), 1)
    theirs.ready.set((), 0)
    other_process(tmp_path, theirs, 1)
    found = samples(mine.render())
    assert found["openai_proxy_tokens_total", (("class", "input"), ("model", "gpt-4o"))] == 7
    assert found["openai_proxy_streams_open", ()] == 7
    assert found["openai_proxy_ready", ()] == 0
    assert [value for (name, _), value in found.items() if name == "openai_proxy_build_info"] == [1]


def test_an_ended_worker_keeps_its_counters_and_loses_its_gauges(tmp_path: Path):
    ended = Metrics(tmp_path)
    ended.tokens.inc(("input", "gpt-4o"), 5)
    ended.database_seconds.observe(("flush",), 0.01)
    ended.streams_open.set((), 5)
    for pid in (11, 12):
        other_process(tmp_path, ended, pid)
        fold_ended(tmp_path, pid)
    found = samples(Metrics(tmp_path).render())
    assert found["openai_proxy_tokens_total", (("class", "input"), ("model", "gpt-4o"))] == 10
    assert found["openai_proxy_database_seconds_count", (("purpose", "flush"),)] == 2
    assert ("openai_proxy_streams_open", ()) not in found
    assert {path.name for path in tmp_path.iterdir()} == {"ended.json"}


def test_a_worker_that_is_folded_while_somebody_reads_is_counted_once(tmp_path: Path):
    """The moment between the two writes of fold_ended: the sum is there, the worker's own file still is as well."""
    ended = Metrics(tmp_path)
    ended.tokens.inc(("input", "gpt-4o"), 5)
    other_process(tmp_path, ended, 11)
    before = (tmp_path / "11.json").read_bytes()
    fold_ended(tmp_path, 11)
    (tmp_path / "11.json").write_bytes(before)
    found = samples(Metrics(tmp_path).render())
    assert found["openai_proxy_tokens_total", (("class", "input"), ("model", "gpt-4o"))] == 5


def test_files_of_others_and_broken_files_are_passed_over(tmp_path: Path):
    (tmp_path / "1.json").write_bytes(b'{"id": "1-1", "val')
    (tmp_path / "2.json").write_bytes(b"[]")
    (tmp_path / "notes.json").write_bytes(b"{}")
    other_process(tmp_path, Metrics(), 3)
    newer = orjson.loads((tmp_path / "3.json").read_bytes())
    newer["values"]["openai_proxy_of_a_newer_version"] = [[[], 1]]
    (tmp_path / "3.json").write_bytes(orjson.dumps(newer))
    fold_ended(tmp_path, 2)
    assert b"newer_version" not in Metrics(tmp_path).render()


def test_a_server_starts_with_an_empty_directory(tmp_path: Path):
    directory = tmp_path / "data" / "metrics"
    prepare_directory(directory)
    (directory / "5.json").write_bytes(b"{}")
    (directory / "5.json.new").write_bytes(b"{}")
    prepare_directory(directory)
    assert list(directory.iterdir()) == []
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_can_not_be_written_stops_nothing(tmp_path: Path):
    metrics = Metrics(tmp_path / "gone")
    metrics.flush()
    assert metrics.cpu_seconds.values[()] > 0


def test_flushing_writes_the_processes_own_use(tmp_path: Path):
    metrics = Metrics(tmp_path)
    metrics.flush()
    written = orjson.loads((tmp_path / f"{os.getpid()}.json").read_bytes())["values"]
    assert written["openai_proxy_resident_memory_bytes"][0][1] > 10_000_000
