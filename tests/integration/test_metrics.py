"""Metrics of real servers: Prefect by our exporter, MinIO by our token; and a configuration that Prometheus takes."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.metrics import METRICS_ONLY, minio_token
from components.prometheus import Job, configuration
from components.service import SecretFile
from providers.minio.policy import PolicyProvider
from providers.minio.policy_attachment import PolicyAttachmentProvider
from providers.minio.user import UserProvider
from tests.e2e.environment import ROOT, docker, eventually
from tests.integration.conftest import RunningMinio
from tests.integration.harness import OWNER, Engine, fresh_process
from tests.integration.images import image
from tests.integration.ports import free_port
from tests.integration.prefect_server import AUTH, RunningPrefect, healthy, running_prefect

__all__ = ["fresh_process"]

START_SECONDS = 30


def authorization(credential: str) -> str:
    return f"Basic {base64.b64encode(credential.encode()).decode()}"


@contextmanager
def exporter(log: Path, url: str, credential: str = AUTH) -> Iterator[httpx.Client]:
    """Run the exporter as its container does, on the API at `url`; a client that asks it."""
    port = free_port()
    command = [sys.executable, "-m", "metrics", str(port), url]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env={}, stdin=subprocess.PIPE, stdout=out, stderr=out) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        try:
            assert process.stdin
            process.stdin.write(authorization(credential).encode())
            process.stdin.close()
            eventually(lambda: process.poll() is not None or healthy(client), START_SECONDS)
            assert process.poll() is None, log.read_text()
            yield client
        finally:
            process.terminate()


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Value by the metric's name and its labels' values, sorted by label."""
    text = client.get("/metrics").raise_for_status().text
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@pytest.fixture(scope="module", name="prefect")
def _prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrefect]:
    """A server with nothing in it, and with its own metrics."""
    settings = {"PREFECT__SERVER_WEBSERVER_ONLY": "1", "PREFECT_SERVER_METRICS_ENABLED": "1"}
    with running_prefect(tmp_path_factory.mktemp("prefect"), settings) as running:
        yield running


def test_runs_queues_and_workers(prefect: RunningPrefect, tmp_path: Path) -> None:
    prefect.send("POST", "/work_pools/", {"name": "a-pool", "type": "process"})
    prefect.send("POST", "/work_pools/a-pool/queues", {"name": "a queue"})
    prefect.send("POST", "/work_pools/a-pool/workers/heartbeat", {"name": "a-worker", "heartbeat_interval_seconds": 30})
    flow = prefect.send("POST", "/flows/", {"name": "a-flow"})["id"]
    deployment = prefect.send(
        "POST", "/deployments/",
        {"name": "one", "flow_id": flow, "work_pool_name": "a-pool", "work_queue_name": "a queue"},
    )["id"]  # fmt: skip

    def flow_run(state: str, name: str | None = None) -> None:
        run = prefect.send("POST", f"/deployments/{deployment}/create_flow_run", {})["id"]
        told = {"type": state, "name": name or state.capitalize()}
        prefect.send("POST", f"/flow_runs/{run}/set_state", {"state": told, "force": True})

    with exporter(tmp_path / "log", str(prefect.connection["url"])) as client:
        assert samples(client)["prefect_flow_runs", "running"] == 0
        for state in ("RUNNING", "COMPLETED", "COMPLETED", "FAILED"):
            flow_run(state)
        flow_run("SCHEDULED", "Late")
        prefect.send("PATCH", "/work_pools/a-pool", {"is_paused": True})
        seen = samples(client)
    assert seen["prefect_flow_runs", "running"] == 1
    assert seen["prefect_flow_runs", "scheduled"] == 1
    assert seen["prefect_flow_runs_ended_last_hour", "completed"] == 2
    assert seen["prefect_flow_runs_ended_last_hour", "failed"] == 1
    assert seen["prefect_flow_runs_ended_last_hour", "crashed"] == 0
    assert seen["prefect_late_flow_runs", "a-pool", "a queue"] == 1
    assert seen["prefect_due_flow_runs", "a-pool", "a queue"] == 1
    assert seen["prefect_late_flow_runs", "a-pool", "default"] == 0
    assert seen["prefect_workers_online", "a-pool"] == 1
    assert seen["prefect_work_pool_paused", "a-pool"] == 1


def test_a_prefect_that_is_away_or_refuses_is_a_target_that_is_down(prefect: RunningPrefect, tmp_path: Path) -> None:
    url = str(prefect.connection["url"])
    for there, credential in ((f"http://127.0.0.1:{free_port()}/api", AUTH), (url, "admin:wrong")):
        with exporter(tmp_path / "log", there, credential) as client:
            assert client.get("/metrics").status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert healthy(client)
        log = (tmp_path / "log").read_text()
        assert log.startswith("Prefect does not answer: ")
        assert "Traceback" not in log
        assert authorization(credential) not in log


def test_prefects_own_metrics_ask_for_its_credential(prefect: RunningPrefect) -> None:
    assert "process_resident_memory_bytes" in prefect.api.get("/metrics").raise_for_status().text
    anybody = httpx.get(f"{prefect.connection['url']}/metrics", trust_env=False)
    assert anybody.status_code == httpx.codes.UNAUTHORIZED


def test_minio_lets_the_token_ask_for_metrics_and_its_user_do_nothing_else(minio_server: RunningMinio) -> None:
    name, secret = f"metrics-{secrets.token_hex(4)}", secrets.token_hex(12)
    common = {"connection": minio_server.connection, "owner": OWNER}
    user, policy, attachment = (Engine(each()) for each in (UserProvider, PolicyProvider, PolicyAttachmentProvider))
    url = f"{minio_server.connection['url']}/minio/v2/metrics/cluster"

    def asked(token: str | None = None) -> int:
        return httpx.get(
            url, headers={"Authorization": f"Bearer {token}"} if token else {}, trust_env=False
        ).status_code

    assert user.up({**common, "user": name, "secret_key": secret}) == "create"
    assert asked(minio_token(name, secret)) == httpx.codes.FORBIDDEN
    document = {**common, "policy": name, "document": METRICS_ONLY}
    assert policy.up(document) == "create"
    assert attachment.up({**common, "policy": name, "user": name}) == "create"
    assert asked(minio_token(name, secret)) == httpx.codes.OK
    assert asked(minio_token(name, f"{secret}-not")) == httpx.codes.FORBIDDEN
    assert asked() == httpx.codes.FORBIDDEN
    assert policy.refresh() == "same"
    assert policy.up(document) == "same"


def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    password, token = SecretFile("prefect", "x"), SecretFile("minio", "x")
    jobs = [
        Job("prefect-server", {"prefect-server": "prefect-server:4200"}, "/api/metrics", "admin", password),
        Job("minio", {"minio": "minio:9000"}, "/minio/v2/metrics/cluster", secret=token),
        Job("dask-worker", {"dask-worker-1": "one:8788", "dask-worker-2": "two:8788"}),
    ]
    (tmp_path / "prometheus.yml").write_text(configuration(jobs))
    for secret in (password, token):
        (tmp_path / secret.name).touch()
    mounts = [word for name in ("prefect", "minio") for word in ("--volume", f"{tmp_path}/{name}:/root/{name}:ro")]
    said = docker(
        "run", "--rm", "--cap-drop", "ALL", "--user", "0", *mounts, "--volume", f"{tmp_path}:/given:ro",
        "--entrypoint", "promtool", image("prometheus"), "check", "config", "/given/prometheus.yml",
    )  # fmt: skip
    assert "is valid prometheus config file syntax" in said
