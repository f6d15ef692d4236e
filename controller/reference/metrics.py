"""The page of the metrics, from the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from prometheus_client.metrics import MetricWrapperBase

from controller.engine import metrics
from controller.reference.tables import table


def page() -> str:
    """`reference/metrics.md`."""
    kept = sorted((each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)), key=lambda each: next(_described(each)))
    rows = [_metric(each) for each in kept]
    now = metrics.Now(phases=lambda: ("Ready",), queue=lambda: (0, 0.0), unclaimed=lambda: 0)
    for family in now.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels})
        rows.append((f"`{family.name}`", family.type, ", ".join(f"`{each}`" for each in labels), family.documentation))
    return "\n".join(
        (
            "# Metrics\n",
            "Served at `/metrics` by the operator (`--metrics-port`) and by `occopus run --metrics-port PORT`, in Prometheus' format.\n",
            "No label names a machine or an infrastructure. Histograms have the series `_bucket`, `_sum` and `_count`.\n",
            table(("Metric", "Type", "Labels", "What it is"), sorted(rows)),
        )
    )


def _described(metric: MetricWrapperBase) -> Iterator[str]:
    yield from (each.name for each in metric.describe())


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    # prometheus_client has no public way to ask a metric for the names of its labels.
    labels = cast("tuple[str, ...]", vars(metric)["_labelnames"])
    return (f"`{name}`", family.type, ", ".join(f"`{each}`" for each in labels), family.documentation)


__all__ = ["page"]
