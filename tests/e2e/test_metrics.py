"""What Prometheus is told of a whole stack, and who says that somebody tells it nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from components.grafana import DASHBOARD
from tests.e2e.environment import Environment, eventually

pytestmark = pytest.mark.xdist_group("lived-in")

ASKED: Final = {
    "dask-scheduler",
    "dask-worker-1",
    "minio",
    "postgres-exporter",
    "prefect-exporter",
    "prefect-server",
    "prometheus",
}
SECONDS: Final = 60.0
"""Four scrapes."""
COUNTED: Final = 180.0
"""How long MinIO may take to count what is in a bucket, which it does in the background."""


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Environment) -> Environment:
    return lived_in


@pytest.fixture(scope="module", name="prometheus")
def _prometheus(env: Environment) -> Iterator[str]:
    """Its URL, as scripts/connect tells it, and keeps it open where it is far away."""
    argv = ["scripts/connect", "--stack", env.stack]
    with subprocess.Popen(argv, cwd=env.root, env=env.env, stdout=subprocess.PIPE, text=True) as connecting:
        assert connecting.stdout
        told = (re.match(r"Prometheus +(http://\S+)", line) for line in connecting.stdout)
        url = next(found[1] for found in told if found)
        try:
            eventually(lambda: httpx.get(f"{url}/-/ready", trust_env=False).is_success, SECONDS)
            yield url
        finally:
            connecting.send_signal(signal.SIGINT)


def asked(prometheus: str, query: str) -> list[dict[str, Any]]:
    """Each series of the answer (https://prometheus.io/docs/prometheus/latest/querying/api)."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, trust_env=False).raise_for_status()
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def up(prometheus: str) -> dict[str, bool]:
    """Whether each one answered all that it was asked last."""
    found: dict[str, bool] = {}
    for each in asked(prometheus, "up"):
        name = each["metric"]["instance"]
        found[name] = found.get(name, True) and each["value"][1] == "1"
    return found


def targets(env: Environment) -> dict[str, str | None]:
    """The same as scripts/status tells it: None where all is well, else why not."""
    told = json.loads(env.run("scripts/status", "--stack", env.stack, "--json", ok=False).text)
    return {each["name"]: each["error"] for each in told["metrics"]["targets"]}


def test_everybody_answers(env: Environment, prometheus: str) -> None:
    eventually(lambda: up(prometheus) == dict.fromkeys(ASKED, True), SECONDS)
    assert targets(env) == dict.fromkeys(ASKED)


@pytest.mark.parametrize(
    ("panel", "query"),
    [
        (panel["title"], target["expr"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ],
)
def test_each_query_of_the_dashboard_is_answered(prometheus: str, panel: str, query: str) -> None:
    # Grafana's variable: at least four scrapes (https://grafana.com/docs/grafana/latest/datasources/prometheus/).
    seconds = COUNTED if panel == "Bucket size" else SECONDS
    found = eventually(lambda: asked(prometheus, query.replace("$__rate_interval", "1m")), seconds)
    assert all(float(each["value"][1]) >= 0 for each in found)


def test_a_run_is_counted(env: Environment, prometheus: str) -> None:
    completed = 'prefect_flow_runs_ended_last_hour{state="completed"}'
    before = float(asked(prometheus, completed)[0]["value"][1])
    env.run_deployment("greetings/test-deployment")
    eventually(lambda: float(asked(prometheus, completed)[0]["value"][1]) > before, SECONDS)


def test_who_tells_nothing_is_named(env: Environment, prometheus: str) -> None:
    network, exporter = env.name("metrics-network"), env.name("postgres-exporter")
    env.docker("network", "disconnect", network, exporter)
    try:
        eventually(lambda: not up(prometheus)["postgres-exporter"], SECONDS)
        done = env.run("scripts/status", "--stack", env.stack, ok=False)
        assert done.code == 1
        assert "✗ postgres-exporter: it gives Prometheus no metrics (" in done.text
        assert f"✗ metrics        {len(ASKED) - 1} of {len(ASKED)} targets answer" in done.text
    finally:
        env.docker("network", "connect", "--alias", "postgres-exporter", network, exporter)
    eventually(lambda: up(prometheus)["postgres-exporter"], SECONDS)
