"""Every credential is made anew, by scripts/rotate, while flow runs go on; none of them fails."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from threading import Event, Thread
from typing import Final

import argon2
import httpx
import pytest
import yaml
from minio import Minio
from minio.error import S3Error

from tests.e2e.environment import NAMESPACE, PREFECT, Environment, eventually

pytestmark = pytest.mark.xdist_group("lived-in")

CREDENTIALS: Final = ("postgres", "minio-root", "minio-key", "api", "authelia")
STAYS: Final = ("postgres", "prefect-api", "dask-scheduler")
"""Containers that no rotation replaces."""
FLOW: Final = """\
import os
import time

from prefect import flow, task
from prefect_dask.task_runners import DaskTaskRunner


@task(persist_result=True)
def step(number: int) -> int:
    time.sleep(0.5)
    return number


@flow(task_runner=DaskTaskRunner(address=os.environ["DASK_SCHEDULER_ADDRESS"]))
def steady(rounds: int):
    for number in range(rounds):
        futures = [step.submit(3 * number + each) for each in range(3)]
        assert [future.result() for future in futures] == [3 * number + each for each in range(3)]
        time.sleep(1)
"""
SHORT, LONG = 1, 12
"""Rounds of a run: over within seconds, and one that sees all of the rotation."""
LONG_RUNS: Final = 2
EVERY_SECONDS: Final = 15
"""Between the starts of two short runs."""


@dataclass
class Load:
    """Flow runs that are started one after the other, by a client who keeps its copy of the credential."""

    env: Environment
    auth: tuple[str, str]
    runs: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What the client got instead of a run."""

    def start(self, rounds: int) -> None:
        """Start a run; where nobody listens for a moment, again."""
        url = f"http://{self.env.reached(PREFECT)}/api"
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(base_url=url, auth=self.auth, transport=transport, timeout=30) as client:
            try:
                found = client.get("/deployments/name/steady/steady").raise_for_status().json()
                made = client.post(
                    f"/deployments/{found['id']}/create_flow_run", json={"parameters": {"rounds": rounds}}
                )
                self.runs.append(made.raise_for_status().json()["id"])
            except httpx.HTTPStatusError as error:
                self.refused.append(str(error))
            except httpx.TransportError:
                return  # The server is being replaced; the published port is its own.

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Start a short run every few seconds until the block ends."""
        over = Event()

        def go() -> None:
            while not over.wait(EVERY_SECONDS):
                self.start(SHORT)

        thread = Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def states(self) -> dict[str, str]:
        """Each run to the state in which it has ended."""
        return {run: str(self.env.followed(run)["state_name"]) for run in self.runs}


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    project = tmp_path_factory.mktemp("project")
    (project / "steady.py").write_text(FLOW)
    flows = dict(lived_in.settings["flows"])
    steady = {"path": str(project), "worker": "dask", "deployments": {"steady": {"entrypoint": "steady.py:steady"}}}
    people = {"ada": {"email": "ada@lived-in.test"}}
    lived_in.write_settings(flows={**flows, "steady": steady}, auth={"mode": "managed", "users": people})
    setting, hashed = f"{NAMESPACE}:auth.users.ada.password_hash", argon2.PasswordHasher().hash(token_hex(8))
    lived_in.pulumi("config", "set", "--secret", "--path", setting, hashed)
    lived_in.apply()
    yield lived_in
    # What Authelia has is protected; the next `up` protects the rest again.
    lived_in.pulumi("state", "unprotect", "--all", "--yes")
    rotated = yaml.safe_load((lived_in.root / "Pulumi.lived-in.yaml").read_text())["config"][f"{NAMESPACE}:rotation"]
    lived_in.write_settings(
        flows=flows, auth=None, rotation={key: rotated[key] for key in rotated if key != "authelia"}
    )
    lived_in.apply()


def rotate(env: Environment, names: Sequence[str]) -> None:
    env.run("scripts/rotate", *names, "--stack", env.stack, "--yes")
    env.secrets.clear()


def ids(env: Environment, names: Sequence[str]) -> dict[str, str]:
    return {name: env.docker("inspect", "--format", "{{.Id}}", env.name(name)) for name in names}


def session_secret(env: Environment) -> str:
    """With it Authelia encrypts log-ins."""
    found = env.docker("exec", env.name("authelia"), "sh", "-c", "cat $AUTHELIA_SESSION_SECRET_FILE")
    assert len(found) >= 32
    return found


def key_of_flows(env: Environment) -> Minio:
    """MinIO as flows reach it now."""
    block = env.http("/block_types/slug/remote-file-system/block_documents/name/dask-block?include_secrets=true")
    settings = block["data"]["settings"]
    settings = settings if isinstance(settings, dict) else json.loads(settings)
    return env.minio(settings["key"], settings["secret"])


def writes(minio: Minio) -> bool:
    try:
        minio.put_object(bucket_name="flows", object_name="rotation", data=io.BytesIO(b"x"), length=1)
    except S3Error as error:
        if error.code not in {"InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            raise
        return False
    return True


def lets_in(env: Environment, auth: tuple[str, str]) -> bool:
    url = f"http://{env.reached(PREFECT)}/api/flow_runs/count"
    status = httpx.post(url, json={}, auth=auth).status_code
    assert status in {200, 401}
    return status == 200


def test_no_run_fails_while_everything_is_rotated(env: Environment) -> None:
    user, _, password = env.secret("prefect_api_auth_string").partition(":")
    root, key = env.secret("minio_root_password"), key_of_flows(env)
    before, sessions = ids(env, STAYS), session_secret(env)
    load = Load(env, (user, password))
    for _ in range(LONG_RUNS):
        load.start(LONG)
    eventually(lambda: all(env.http(f"/flow_runs/{run}")["state_type"] == "RUNNING" for run in load.runs), 60)
    with load.going_on():
        rotate(env, CREDENTIALS)
    states = load.states()

    assert load.refused == []
    assert set(states.values()) == {"Completed"}
    assert len(states) > LONG_RUNS + 1
    assert ids(env, STAYS) == before
    assert env.secret("prefect_api_auth_string") != f"{user}:{password}"
    assert env.secret("minio_root_password") != root
    assert session_secret(env) != sessions
    # Who has the former ones may go on with them, the administrator's password excepted.
    assert lets_in(env, (user, password))
    assert writes(key)
    assert writes(key_of_flows(env))

    rotate(env, ("minio-key", "api"))
    assert not lets_in(env, (user, password))
    assert not writes(key)
    assert writes(key_of_flows(env))
