"""What a run depends on is killed again and again under it: nothing is lost, and all is healthy soon after."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.environment import Environment, docker, eventually

pytestmark = pytest.mark.xdist_group("lived-in")

FLOW: Final = """\
import os
import time

from prefect import flow, task
from prefect_dask.task_runners import DaskTaskRunner


@task(persist_result=True)
def squared(number: int) -> int:
    time.sleep(1)
    return number * number


@flow(
    task_runner=DaskTaskRunner(address=os.environ["DASK_SCHEDULER_ADDRESS"]),
    persist_result=True,
    retries=10,
)
def sums(number: int) -> int:
    return sum(future.result() for future in [squared.submit(number + more) for more in range(3)])
"""
PARTS: Final = ("postgres", "minio", "prefect-server", "dask-scheduler", "prefect-worker-dask-1")
ROUNDS: Final = 5
SECONDS: Final = 3
"""Between the end of one and the end of the next."""
HEALTHY_SECONDS: Final = 60
RUNS: Final = 12


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    env, before = lived_in, lived_in.settings["flows"]
    project = tmp_path_factory.mktemp("sums")
    (project / "sums.py").write_text(FLOW)
    sums = {"path": str(project), "worker": "dask", "deployments": {"steady": {"entrypoint": "sums.py:sums"}}}
    env.write_settings(flows={**before, "sums": sums})
    env.apply()
    yield env
    # So that status does not tell of the crashes to those who come after: a restart by hand sets the count back.
    docker("restart", "--time", "10", *(env.name(part) for part in (*PARTS, "dask-worker-1")))
    env.write_settings(flows=before)
    env.apply()
    eventually(lambda: not unhealthy(env), HEALTHY_SECONDS)


def crash(env: Environment, part: str) -> None:
    """Kill a container's first process as a crash does: Docker starts what it did not end itself again."""
    pid = int(docker("inspect", "--format", "{{.State.Pid}}", env.name(part)))
    if pid:  # It may be just about to start.
        os.kill(pid, signal.SIGKILL)


def planned(env: Environment, seconds: float) -> list[str]:
    """Ids of flow runs that are to begin one after the other within `seconds`."""
    deployment = env.http("/deployments/name/sums/steady")["id"]
    begin = datetime.now(UTC)
    runs = []
    for number in range(RUNS):
        at = begin + timedelta(seconds=seconds * number / RUNS)
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
        body = {"parameters": {"number": number}, "state": state}
        runs.append(str(env.http(f"/deployments/{deployment}/create_flow_run", body)["id"]))
    return runs


def unhealthy(env: Environment) -> list[str]:
    named = f"label=prefect-environment.stack={env.stack}"
    listed = docker("ps", "--all", "--format", "{{.Names}} {{.Status}}", "--filter", named)
    return [line for line in listed.splitlines() if "(healthy)" not in line]


def states(env: Environment, runs: list[str]) -> Counter[str]:
    """How many are in which state."""
    try:
        found: list[dict[str, Any]] = env.http("/flow_runs/filter", {"flow_runs": {"id": {"any_": runs}}})
    except httpx.HTTPError:
        return Counter()
    return Counter(each["state_name"] for each in found)


def test_no_run_and_no_object_is_lost(env: Environment, tmp_path: Path) -> None:
    store = env.minio()
    (tmp_path / "kept").write_bytes(os.urandom(1 << 20))
    store.fput_object("flows", "kept", str(tmp_path / "kept"))
    before = {each.object_name: each.etag for each in store.list_objects("flows", recursive=True)}
    runs = planned(env, ROUNDS * len(PARTS) * SECONDS)
    for _ in range(ROUNDS):
        for part in PARTS:
            crash(env, part)
            time.sleep(SECONDS)
    eventually(lambda: not unhealthy(env), HEALTHY_SECONDS)
    eventually(lambda: states(env, runs) == {"Completed": RUNS}, 180)
    after = {each.object_name: each.etag for each in store.list_objects("flows", recursive=True)}
    assert before.items() <= after.items()
    for run in runs:
        result = env.http(f"/flow_runs/{run}")["state"]["data"]["storage_key"]
        assert any(str(name).endswith(result) for name in after)
    store.remove_object("flows", "kept")
