"""What Prometheus sees: bounded labels, no name of a machine or an infrastructure (design section 9).

Counters and histograms are kept where things happen; counts of objects are made by `Now` when they are asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter as Count
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from controller import errors
from controller.ports import CALL_SECONDS, Account, T, Threads

log = logging.getLogger(__name__)

#: A driver's call ends by itself within CALL_SECONDS; one that has not by then is waited for no longer.
GIVE_UP_SECONDS = CALL_SECONDS + 10

# When a counter was made says nothing here, and would double the number of series.
disable_created_metrics()
REGISTRY = CollectorRegistry()

reconciles = Counter("occopus_reconciles_total", "Passes over an object.", ["kind", "result"], registry=REGISTRY)
reconcile_seconds = Histogram("occopus_reconcile_duration_seconds", "Time of a pass.", ["kind"], registry=REGISTRY)
cloud_calls = Counter("occopus_cloud_calls_total", "Calls to a cloud.", ["kind", "action", "result"], registry=REGISTRY)
cloud_seconds = Histogram("occopus_cloud_call_duration_seconds", "Time of a call to a cloud.", ["kind", "action"], registry=REGISTRY)
limiter_seconds = Histogram(
    "occopus_limiter_wait_seconds",
    "How long calls wait for their turn within the account's rates.",
    ["kind", "action"],
    buckets=(0.1, 1, 5, 10, 30, 60, 120, 300, 600),
    registry=REGISTRY,
)
store_writes_refused = Counter("occopus_store_writes_refused_total", "Writes that the API refused.", ["kind", "reason"], registry=REGISTRY)
launch_seconds = Histogram(
    "occopus_launch_to_ready_seconds",
    "From the recorded launch of a machine until it was first Ready.",
    buckets=(1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200),
    registry=REGISTRY,
)
probes = Counter("occopus_probes_total", "Health checks.", ["result"], registry=REGISTRY)
replacements = Counter("occopus_replacements_total", "Instances replaced.", ["reason"], registry=REGISTRY)
unclaimed_ended = Counter("occopus_unclaimed_machines_ended_total", "Machines ended by the sweep.", registry=REGISTRY)
leader = Gauge("occopus_leader", "1 while this process may act for its store.", registry=REGISTRY)
namespace_served = Gauge(
    "occopus_namespace_served",
    "Of each namespace that `--namespaces` names, 0 while its objects may not be listed: it is not served then.",
    ["namespace"],
    registry=REGISTRY,
)
abandoned = Counter("occopus_machines_left_total", "Machines left alone when their Instance went.", ["reason"], registry=REGISTRY)


async def cloud_call(threads: Threads, account: Account, action: str, call: Callable[[], T]) -> T:
    """Make one call to a cloud in a thread, timed and counted. Raises CloudError and nothing else.

    A defect of a driver, or a call that does not end, becomes Transient: it must stop nobody but the machines of that account.
    """
    kind = account.kind
    with _cloud_call(kind, action):
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                return await threads(call, f"{kind}/{account.id}/{account.region}")
        except TimeoutError:
            raise errors.Transient(f"no answer to {action} within {GIVE_UP_SECONDS:g} s") from None
        except errors.CloudError:
            raise
        except Exception as error:
            log.exception("The driver %s failed at %s", kind, action)
            raise errors.Transient(f"the driver {kind} failed at {action}: {type(error).__name__}") from error


@contextmanager
def _cloud_call(kind: str, action: str) -> Generator[None]:
    """Time one call to a cloud and count its outcome by the class of the error."""
    started, result = time.perf_counter(), "ok"
    try:
        yield
    except errors.CloudError as error:
        result = type(error).__name__
        raise
    finally:
        cloud_seconds.labels(kind, action).observe(time.perf_counter() - started)
        cloud_calls.labels(kind, action, result).inc()


class Now:
    """Gauges that are computed when asked for: no series per object, nothing to keep right meanwhile."""

    def __init__(self, phases: Callable[[], Iterable[str]], queue: Callable[[], tuple[int, float]], unclaimed: Callable[[], int]) -> None:
        self._phases, self._queue, self._unclaimed = phases, queue, unclaimed

    def collect(self) -> Iterator[Metric]:
        instances = GaugeMetricFamily("occopus_instances", "Instances by phase.", labels=["phase"])
        for phase, number in sorted(Count(self._phases()).items()):
            instances.add_metric([phase or "New"], number)
        yield instances
        depth, age = self._queue()
        yield GaugeMetricFamily("occopus_queue_depth", "Keys that wait for a worker.", value=depth)
        yield GaugeMetricFamily("occopus_queue_age_seconds", "For how long the oldest of them waits.", value=age)
        yield GaugeMetricFamily("occopus_unclaimed_machines", "Machines of ours that no Instance claims.", value=self._unclaimed())
