"""Names, labels and buckets that dashboards are built on."""

from __future__ import annotations

import numpy as np
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server import errors
from server.metrics import REASONS, SECONDS, Metrics


def families(metrics: Metrics) -> dict[str, set[str]]:
    """Names of all metrics with the labels of their samples."""
    page = generate_latest(metrics.registry).decode()
    return {
        family.name: {label for sample in family.samples for label in sample.labels}
        for family in text_string_to_metric_families(page)
    }


def used() -> Metrics:
    metrics = Metrics()
    metrics.request("/v2/models/{name}/infer", 200, 0.01)
    metrics.refused("queue-full", 64)
    metrics.accepted(3)
    metrics.answered("digits", 3, explained=True)
    metrics.explained("digits", 0.01)
    metrics.batch("idle", 3)
    metrics.waited(0.001)
    metrics.computed(
        "digits",
        forward_s=0.01,
        defenses=[("am", 0.001, np.array([0.0, 0.3, 1.7], dtype=np.float32))],
        distortion=np.array([0.0, 0.3, 2.0], dtype=np.float32),
        top1_changed=1,
    )
    return metrics


def test_labels_are_closed_and_no_caller_is_among_them() -> None:
    ours = {
        name: labels - {"le"}
        for name, labels in families(used()).items()
        if name.startswith("intaglio_") and not name.endswith("_created")
    }
    assert ours == {
        "intaglio_batch_failures": set(),
        "intaglio_batch_samples": set(),
        "intaglio_batches": {"released"},
        "intaglio_defense_distortion_l1": {"defense"},
        "intaglio_defense_seconds": {"defense"},
        "intaglio_explained_samples": {"model"},
        "intaglio_explanation_seconds": {"model"},
        "intaglio_failed_rows": set(),
        "intaglio_forward_seconds": {"model"},
        "intaglio_in_flight_samples": set(),
        "intaglio_queue_seconds": set(),
        "intaglio_queued_samples": set(),
        "intaglio_ready": set(),
        "intaglio_refused_requests": {"reason"},
        "intaglio_refused_samples": {"reason"},
        "intaglio_request_seconds": {"route"},
        "intaglio_requests": {"route", "status"},
        "intaglio_samples": {"model"},
        "intaglio_served_distortion_l1": {"model"},
        "intaglio_top1_changed": {"model"},
    }


def test_durations_reach_from_100_microseconds_to_30_seconds() -> None:
    assert SECONDS[0] == 1e-4
    assert SECONDS[-1] == 30.0
    assert list(SECONDS) == sorted(SECONDS)


def test_an_unknown_reason_is_other() -> None:
    metrics = Metrics()
    metrics.refused("because", 2)
    labels = {"reason": "other"}
    assert metrics.registry.get_sample_value("intaglio_refused_samples_total", labels) == 2


def test_every_error_has_a_reason_that_is_known() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    reasons = [kind.reason for kind in kinds if issubclass(kind, errors.ServiceError)]
    assert len(reasons) > 10
    assert set(reasons) <= set(REASONS)


def test_the_distortion_histogram_counts_like_a_histogram() -> None:
    values = np.random.default_rng(0).uniform(0, 2, 1000).astype(np.float32)
    metrics = Metrics()
    for part in np.split(values, 10):
        metrics.computed("m", forward_s=0, defenses=[], distortion=part, top1_changed=0)

    def value(suffix: str, **labels: str) -> float | None:
        name = f"intaglio_served_distortion_l1_{suffix}"
        return metrics.registry.get_sample_value(name, {"model": "m", **labels})

    assert value("count") == value("bucket", le="+Inf") == 1000
    assert value("bucket", le="1.0") == (values <= 1.0).sum()
    assert value("bucket", le="2.0") == 1000
    assert abs((value("sum") or 0) - values.sum()) < 0.01


def test_two_servers_in_one_process_do_not_share_a_count() -> None:
    first, second = used(), Metrics()
    labels = {"model": "digits"}
    assert first.registry.get_sample_value("intaglio_samples_total", labels) == 3
    assert second.registry.get_sample_value("intaglio_samples_total", labels) is None
