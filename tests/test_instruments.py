"""Counters, gauges and histograms: counting, bounded labels, and what several processes' rows make together."""

from __future__ import annotations

import pytest

from proxy.instruments import Counter, Gauge, Histogram, merged


def test_a_counter_adds_under_its_labels():
    counter = Counter("tokens", "Tokens.", ("class", "model"))
    counter.inc(("input", "gpt-4o"), 12)
    counter.inc(("input", "gpt-4o"))
    counter.inc(("output", "gpt-4o"), 3)
    assert dict(counter.dump()) == {("input", "gpt-4o"): 13, ("output", "gpt-4o"): 3}


def test_a_counter_without_labels_shows_zero_before_anything_happened():
    assert Counter("faults", "Faults.").dump() == [((), 0)]


def test_a_gauge_is_set_and_moved():
    gauge = Gauge("open", "Open.")
    gauge.add((), 2)
    gauge.add((), -1)
    assert gauge.dump() == [((), 1)]
    gauge.set((), 7)
    assert gauge.dump() == [((), 7)]


def test_a_histogram_counts_a_value_in_the_first_bucket_that_holds_it():
    histogram = Histogram("seconds", "Seconds.", bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe((), value)
    ((labels, cell),) = histogram.dump()
    assert labels == ()
    assert cell[:3] == [2, 1, 1]
    assert cell[3] == pytest.approx(3.65)


def test_too_many_label_sets_make_only_the_labels_of_clients_other():
    counter = Counter("requests", "Requests.", ("model", "outcome"))
    counter.label_sets_max = 3
    for number in range(50):
        counter.inc((f"made-up-{number}", "success"))
    counter.inc(("made-up-0", "success"))
    assert dict(counter.dump()) == {
        ("made-up-0", "success"): 2,
        ("made-up-1", "success"): 1,
        ("made-up-2", "success"): 1,
        ("other", "success"): 47,
    }


def test_no_number_of_label_sets_passes_twice_the_bound_and_nothing_goes_uncounted():
    counter = Counter("refusals", "Refusals.", ("reason", "model"))
    counter.label_sets_max = 10
    for number in range(1000):
        counter.inc((f"reason-{number}", f"model-{number}"))
    assert len(counter.values) <= 21
    assert sum(counter.values.values()) == 1000


def test_label_values_are_short_and_printable():
    counter = Counter("requests", "Requests.", ("model",))
    counter.inc(("a\nb\udcff" + "x" * 500,))
    (((model,), count),) = counter.dump()
    assert model == "a?b?" + "x" * 96
    assert count == 1


def test_counters_and_cells_of_processes_are_summed():
    counter = Counter("n", "N.", ("model",))
    assert merged(counter, [[[["a"], 1], [["b"], 2]], [[["a"], 10]]]) == {("a",): 11, ("b",): 2}
    histogram = Histogram("s", "S.", bounds=(1.0,))
    assert merged(histogram, [[[[], [1, 0, 0.5]]], [[[], [0, 2, 8.0]]]]) == {(): [1, 2, 8.5]}


def test_gauges_of_processes_are_merged_as_declared():
    rows = [[[[], 1]], [[[], 0]], [[[], 1]]]
    assert merged(Gauge("open", "Open."), rows) == {(): 2}
    assert merged(Gauge("info", "Info.", merge="max"), rows) == {(): 1}
    assert merged(Gauge("ready", "Ready.", merge="min"), rows) == {(): 0}
