"""What Prefect watches by itself: a worker is killed under its flow runs, and the server goes away for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.e2e.environment import eventually
from tests.e2e.hosts import Hosted
from tests.e2e.test_status import assert_well

pytestmark = pytest.mark.xdist_group("lived-in")

FLOW: Final = """\
import time

from prefect import flow


@flow(retries=2)
def long(seconds: int):
    for _ in range(seconds):
        time.sleep(1)


@flow
def once(seconds: int):
    time.sleep(seconds)
"""
LIVES: Final = 100
"""Seconds that the run takes which the server leaves alone for a while."""
AWAY: Final = 60
"""Seconds that the server is off."""
DIES: Final = 45
"""Seconds that the killed run would have taken."""
RETRIED: Final = 30
"""Seconds that the run takes which is started again after a power cut."""
PROMISED: Final = 180
"""Seconds from the end of a worker to the state Crashed."""
WORKER: Final = "prefect-worker-watch-1"


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    project = tmp_path_factory.mktemp("project")
    (project / "watched.py").write_text(FLOW)
    deployments = {
        "several": {"entrypoint": "watched.py:long"},
        "one": {"entrypoint": "watched.py:long", "concurrency_limit": 1},
        "only": {"entrypoint": "watched.py:once", "concurrency_limit": 1},
    }
    flows = dict(lived_in.settings["flows"])
    lived_in.write_settings(
        workers={"dask": {"pool": "dask-pool", "queues": ["dask-queue"]}, "watch": {"pool": "watch"}},
        flows={**flows, "watch": {"path": str(project), "worker": "watch", "deployments": deployments}},
    )
    lived_in.apply()
    yield lived_in
    lived_in.write_settings(workers=None, flows=flows)
    lived_in.apply()


def started(env: Hosted, deployment: str, seconds: int, flow: str = "long") -> str:
    """Id of a new flow run."""
    found = env.http(f"/deployments/name/{flow}/{deployment}")
    made = env.http(f"/deployments/{found['id']}/create_flow_run", {"parameters": {"seconds": seconds}})
    return str(made["id"])


def state(env: Hosted, flow_run: str) -> str:
    return str(env.http(f"/flow_runs/{flow_run}")["state_type"])


def states(env: Hosted, flow_run: str) -> list[str]:
    """Those that it has been in."""
    return [str(each["type"]) for each in env.http(f"/flow_run_states/?flow_run_id={flow_run}")]


def running(env: Hosted, flow_run: str) -> None:
    eventually(lambda: state(env, flow_run) == "RUNNING", 120)


def heartbeats(env: Hosted, flow_run: str) -> list[dict[str, Any]]:
    asked = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run}"]},
        "order": "ASC",
    }
    found: list[dict[str, Any]] = env.http("/events/filter", {"filter": asked})["events"]
    return found


def test_a_run_outlives_a_restart_of_the_server(env: Hosted) -> None:
    run = started(env, "several", LIVES)
    running(env, run)
    eventually(lambda: heartbeats(env, run), 30)
    env.docker("stop", env.name("prefect-server"))
    time.sleep(AWAY)
    env.docker("start", env.name("prefect-server"))
    eventually(lambda: answers(env), 120)
    assert env.followed(run)["state_type"] == "COMPLETED"
    assert "CRASHED" not in states(env, run)


def answers(env: Hosted) -> bool:
    import httpx

    try:
        env.http("/health")
    except httpx.HTTPError:
        return False
    return True


@dataclass(frozen=True)
class Killed:
    """A worker was killed under a run, while another one waited for its slot."""

    run: str
    waiting: str
    at: float


@pytest.fixture(scope="module", name="killed")
def _killed(env: Hosted) -> Killed:
    run = started(env, "one", DIES)
    running(env, run)
    eventually(lambda: heartbeats(env, run), 30)
    waiting = started(env, "one", 1)
    # Docker leaves it so: to its restart policy this is a stop by hand.
    env.docker("kill", env.name(WORKER))
    return Killed(run, waiting, time.monotonic())


def test_a_run_of_a_dead_worker_is_crashed(env: Hosted, killed: Killed) -> None:
    eventually(lambda: state(env, killed.run) == "CRASHED", PROMISED - (time.monotonic() - killed.at))
    assert "No heartbeat" in env.http(f"/flow_runs/{killed.run}")["state"]["message"]


def test_its_slot_is_free_and_it_runs_again_when_told_to(env: Hosted, killed: Killed) -> None:
    env.docker("start", env.name(WORKER))
    assert env.followed(killed.waiting)["state_type"] == "COMPLETED"
    # The flow's own retries are for failures: Prefect leaves a crashed run as it is.
    assert state(env, killed.run) == "CRASHED"
    # What Retry in the UI asks for.
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": False}
    env.http(f"/flow_runs/{killed.run}/set_state", again)
    assert env.followed(killed.run)["state_type"] == "COMPLETED"


def test_a_power_cut_in_mid_run(env: Hosted) -> None:
    crashed, retried = started(env, "only", DIES, "once"), started(env, "several", RETRIED)
    for run in (crashed, retried):
        running(env, run)
    waiting = started(env, "only", 1, "once")
    begin = time.monotonic()
    env.host.reboot(power_cut=True)
    eventually(lambda: answers(env), 120)
    eventually(lambda: state(env, crashed) == "CRASHED", PROMISED - (time.monotonic() - begin))
    assert env.followed(waiting)["state_type"] == "COMPLETED", "the slot is free"
    again = env.followed(retried)
    assert (again["state_type"], again["run_count"]) == ("COMPLETED", 2)
    assert "CRASHED" in states(env, retried)
    assert state(env, crashed) == "CRASHED", "it has no retries"
    assert env.run_deployment("greetings/test-deployment")["state_type"] == "COMPLETED"
    assert_well(env)
