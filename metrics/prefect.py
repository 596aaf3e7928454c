"""Prefect's runs, queues and workers as metrics, asked of its API (https://docs.prefect.io/v3/api-ref/rest-api)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

GOING_ON = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
"""Types of states that runs leave again."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
RECENT = timedelta(hours=1)

Filter = Mapping[str, object]


class PrefectCollector(Collector):
    """Asks anew for each scrape; what Prefect does not answer, raises `httpx.HTTPError`."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics."""
        now = datetime.now(UTC)
        runs = GaugeMetricFamily(
            "prefect_flow_runs", "Flow runs that have not ended, by type of state", labels=["state"]
        )
        for state in GOING_ON:
            runs.add_metric([state.lower()], self._count({"state": {"type": {"any_": [state]}}}))
        yield runs
        ended = GaugeMetricFamily(
            "prefect_flow_runs_ended_last_hour",
            "Flow runs that ended in the last hour, by type of state",
            labels=["state"],
        )
        for state in ENDED:
            recent = {"state": {"type": {"any_": [state]}}, "end_time": {"after_": (now - RECENT).isoformat()}}
            ended.add_metric([state.lower()], self._count(recent))
        yield ended
        yield from self._pools(now)

    def _pools(self, now: datetime) -> Iterator[GaugeMetricFamily]:
        workers = GaugeMetricFamily("prefect_workers_online", "Workers that Prefect hears of", labels=["pool"])
        paused = GaugeMetricFamily("prefect_work_pool_paused", "1 for a pool that is paused", labels=["pool"])
        labels = ["pool", "queue"]
        due = GaugeMetricFamily("prefect_due_flow_runs", "Flow runs that could start now, late ones too", labels=labels)
        late = GaugeMetricFamily("prefect_late_flow_runs", "Flow runs that should have started", labels=labels)
        for pool in self._list("/work_pools/filter", {}):
            name = pool["name"]
            online = self._list(f"/work_pools/{name}/workers/filter", {"workers": {"status": {"any_": ["ONLINE"]}}})
            workers.add_metric([name], len(online))
            paused.add_metric([name], pool["is_paused"])
            for queue in self._list(f"/work_pools/{name}/queues/filter", {}):
                here = {
                    "work_pools": {"name": {"any_": [name]}},
                    "work_pool_queues": {"name": {"any_": [queue["name"]]}},
                }
                scheduled = {"type": {"any_": ["SCHEDULED"]}}
                begun = {"state": scheduled, "next_scheduled_start_time": {"before_": now.isoformat()}}
                due.add_metric([name, queue["name"]], self._count(begun, here))
                late.add_metric([name, queue["name"]], self._count({"state": {"name": {"any_": ["Late"]}}}, here))
        yield from (workers, paused, due, late)

    def _count(self, flow_runs: Filter, where: Filter | None = None) -> int:
        found: int = self._asked("/flow_runs/count", {"flow_runs": flow_runs, **(where or {})}).json()
        return found

    def _list(self, path: str, body: Filter) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._asked(path, body).json()
        return found

    def _asked(self, path: str, body: Filter) -> httpx.Response:
        return self._api.post(path, json=body).raise_for_status()
