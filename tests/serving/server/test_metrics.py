"""The metrics page, read by Prometheus' own parser."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.metrics import Metrics, read_metrics_path

OK = grpc.StatusCode.OK


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every value on the page, by name and labels."""
    page = metrics.page()
    assert page.endswith("\n")
    counters = set(re.findall("# TYPE (.*) counter", page))
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            name = sample.name
            if family.type == "counter" and name not in counters:
                # The parser gives every counter this ending.
                name = name.removesuffix("_total")
            found[name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_requests_are_counted_by_model_and_status():
    metrics = Metrics()
    metrics.request("shop", "Predict", "GRPC", OK, 0.002)
    metrics.request("shop", "Predict", "REST", OK, 0.002)
    metrics.request("shop", "Predict", "GRPC", grpc.StatusCode.INVALID_ARGUMENT, 0.1)
    metrics.request("other", "Classify", "GRPC", OK, 0.1)
    # tensorflow_model_server does not count these.
    metrics.request("shop", "GetModelMetadata", "GRPC", OK, 0.1)
    metrics.request("shop", "MultiInference", "GRPC", OK, 0.1)
    name = ":tensorflow:serving:request_count"
    assert value(metrics, name, model_name="shop", status="OK") == 2
    assert value(metrics, name, model_name="shop", status="INVALID_ARGUMENT") == 1
    assert value(metrics, name, model_name="other", status="OK") == 1


def test_latency_is_a_histogram_of_microseconds_of_what_went_well():
    metrics = Metrics()
    for seconds in (5e-6, 15e-6, 0.002, 3600):
        metrics.request("shop", "Predict", "GRPC", OK, seconds)
    metrics.request("shop", "Predict", "GRPC", grpc.StatusCode.UNAVAILABLE, 0.1)
    name = ":tensorflow:serving:request_latency"
    labels = {"model_name": "shop", "API": "Predict", "entrypoint": "GRPC"}
    buckets = {
        le: value(metrics, f"{name}_bucket", **labels, le=le)
        # 10 * 1.8^n, with the six digits that absl::StrCat gives.
        for le in ("10", "18", "32.4", "58.32", "104.976", "188.957", "+Inf")
    }
    assert buckets == {
        "10": 1,
        "18": 2,
        "32.4": 2,
        "58.32": 2,
        "104.976": 2,
        "188.957": 2,
        "+Inf": 4,
    }
    limits = [
        float(dict(key)["le"])
        for metric, key in samples(metrics)
        if metric == f"{name}_bucket"
    ]
    assert len(limits) == 34
    assert limits == sorted(limits)
    # The last limit is 10 * 1.8^32, about 25 minutes; an hour is beyond.
    assert math.isclose(limits[-2], 1.47476e9, rel_tol=1e-5)
    assert value(metrics, f"{name}_count", **labels) == 4
    assert value(metrics, f"{name}_sum", **labels) == pytest.approx(3_600_002_020)


def test_rest_and_grpc_are_told_apart_as_there():
    metrics = Metrics()
    metrics.request("shop", "Predict", "GRPC", OK, 0.1)
    metrics.request("shop", "Predict", "REST", OK, 0.1)
    apis = {
        (dict(labels)["API"], dict(labels)["entrypoint"])
        for name, labels in samples(metrics)
        if name == ":tensorflow:serving:request_latency_count"
    }
    assert apis == {("Predict", "GRPC"), ("predict", "REST")}


def test_runs_loads_warm_ups_and_examples():
    metrics = Metrics()
    metrics.runtime("shop", "Predict", 0.001)
    metrics.load("/models/shop/1", OK, 1.5)
    metrics.load("/models/shop/2", grpc.StatusCode.NOT_FOUND, 0.5)
    metrics.warmup("/models/shop/1", OK, 0.25)
    metrics.examples("shop", "Classify", 3)
    metrics.examples("shop", "Classify", 4)
    serving = ":tensorflow:serving:"
    model = ":tensorflow:cc:saved_model:"
    expected = {
        (f"{serving}runtime_latency_sum", "shop", "Predict", "TF1"): 1000,
        (f"{model}load_attempt_count", "/models/shop/1", "success"): 1,
        (f"{model}load_attempt_count", "/models/shop/2", "fail"): 1,
        (f"{model}load_latency", "/models/shop/1"): 1_500_000,
        (f"{serving}model_warmup_latency_sum", "/models/shop/1", "OK"): 250_000,
        (f"{serving}request_example_counts_count", "shop"): 2,
        (f"{serving}request_example_counts_sum", "shop"): 7,
        (f"{serving}request_example_count_total", "shop"): 7,
    }
    found = {
        (
            name,
            *(text for _, text in sorted(labels, key=lambda pair: order(pair[0]))),
        ): it
        for (name, labels), it in samples(metrics).items()
    }
    assert {key: found.get(key) for key in expected} == expected
    assert (f"{model}load_latency", "/models/shop/2") not in found


def order(label: str) -> int:
    return [
        "model_name",
        "model_path",
        "model",
        "API",
        "runtime",
        "status",
        "le",
    ].index(label)


def test_batches():
    metrics = Metrics()
    metrics.batch_input(3, 2)
    metrics.batch([0.0001, 0.0003], padding=1, rows=8)
    name = ":tensorflow:serving:batching_session:"
    # Once for each tensor of the request.
    assert value(metrics, f"{name}input_batch_size_count") == 2
    assert value(metrics, f"{name}input_batch_size_sum") == 6
    assert value(metrics, f"{name}processed_batch_size_sum") == 8
    assert value(metrics, f"{name}padding_size_sum", execution_batch_size="8") == 1
    assert value(metrics, f"{name}wrapped_run_count") == 1
    labels = {"thread_pool_name": ""}
    assert value(metrics, f"{name}queuing_latency_count", **labels) == 2
    assert value(metrics, f"{name}queuing_latency_sum", **labels) == pytest.approx(400)
    assert value(metrics, f"{name}queuing_latency_bucket", **labels, le="120") == 1


def test_the_names_are_there_before_anything_has_happened():
    page = Metrics().page()
    assert "# TYPE :tensorflow:serving:request_count counter\n" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram\n" in page
    assert samples(Metrics()) == {}


def test_a_label_may_be_any_text():
    metrics = Metrics()
    names = ['quote"', "back\\slash", "new\nline", "ü", ""]
    for name in names:
        metrics.request(name, "Predict", "GRPC", OK, 0.1)
    for name in names:
        assert (
            value(
                metrics,
                ":tensorflow:serving:request_count",
                model_name=name,
                status="OK",
            )
            == 1
        )


def test_names_that_callers_make_up_do_not_fill_the_memory():
    metrics, not_found = Metrics(), grpc.StatusCode.NOT_FOUND
    for number in range(3000):
        metrics.request(f"model {number}", "Predict", "GRPC", not_found, 0.1)
    counts = {
        dict(labels)["model_name"]: count
        for (name, labels), count in samples(metrics).items()
        if name == ":tensorflow:serving:request_count"
    }
    assert len(counts) == 1001
    assert sum(counts.values()) == 3000
    metrics.request("model 0", "Predict", "GRPC", not_found, 0.1)
    labels = {"model_name": "model 0", "status": "NOT_FOUND"}
    assert value(metrics, ":tensorflow:serving:request_count", **labels) == 2


def test_nothing_is_lost_between_threads():
    metrics = Metrics()

    def count(_: int) -> None:
        for _ in range(500):
            metrics.request("shop", "Predict", "GRPC", OK, 0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    labels = {"model_name": "shop", "status": "OK"}
    assert value(metrics, ":tensorflow:serving:request_count", **labels) == 4000


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true, path: "/metrics" }', "/metrics"),
        ('prometheus_config { path: "/metrics" }', None),
        ("", None),
    ],
)
def test_the_monitoring_config_says_where(tmp_path, text, path):
    file = tmp_path / "monitoring.pbtxt"
    file.write_text(text)
    assert read_metrics_path(file) == path


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "monitoring.pbtxt"
    file.write_text("prometheus { }")
    with pytest.raises(
        InvalidValueError, match="monitoring_config_file must be a file"
    ):
        read_metrics_path(file)
