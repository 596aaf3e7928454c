"""Flows beside the settings, secrets for them, what is paused, and results that go: from the outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.environment import MINIO, NAMESPACE, PREFECT, Environment, run
from tests.e2e.test_flow_projects import READ_BACK

pytestmark = pytest.mark.xdist_group("lived-in")

TOKEN = "sunny-42-in-Warsaw"
FLOW = """
from prefect import flow
from prefect.blocks.system import Secret

@flow(persist_result=True)
def forecast(days: int = 1):
    return [Secret.load("weather-token").get()[:5]] * days
"""
SCHEDULE = {"cron": "0 3 1 1 *"}


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Environment) -> Iterator[Environment]:
    env, shipped = lived_in, lived_in.settings["flows"]
    flows: dict[str, Any] = json.loads(json.dumps(shipped))
    flows["greetings"]["deployments"]["test-deployment"]["schedules"] = [SCHEDULE]
    env.write_settings(flows=flows, retention={"results_days": 30})
    env.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:secrets.weather-token", TOKEN)
    try:
        env.apply()
        yield env
    finally:
        env.write_settings(flows=shipped, retention=None)
        env.apply()


def greetings(env: Environment) -> Any:
    return env.http("/deployments/name/greetings/test-deployment")


def test_flows_are_deployed_without_the_keys_and_find_their_secrets(env: Environment, tmp_path: Path) -> None:
    # Somebody pauses the stack's own, in the UI.
    [schedule] = greetings(env)["schedules"]
    assert schedule["active"] is True
    env.http(f"/deployments/{greetings(env)['id']}/schedules/{schedule['id']}", {"active": False}, "PATCH")

    project = tmp_path / "weather"
    project.mkdir()
    (project / "weather.py").write_text(FLOW)
    pool = {"name": "dask-pool", "work_queue_name": "dask-queue"}
    deployments = [{"name": "daily", "entrypoint": "weather.py:forecast", "work_pool": pool}]
    (project / "prefect.yaml").write_text(yaml.safe_dump({"deployments": deployments}))
    outputs = env.outputs()
    # The whole environment: neither state nor passphrase, and a home without anything in it.
    given = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PREFECT_API_URL": f"http://{env.reached(PREFECT)}/api",
        "PREFECT_API_AUTH_STRING": env.secret("prefect_api_auth_string"),
        "AWS_ENDPOINT_URL_S3": f"http://{env.reached(MINIO)}",
        "AWS_ACCESS_KEY_ID": outputs["bucket_access_key"],
        "AWS_SECRET_ACCESS_KEY": env.secret("bucket_secret_key"),
    }
    done = run(["scripts/deploy-flow", str(project)], env.root, given, timeout=120)
    assert done.code == 0, done.text
    assert "forecast/daily: on dask-pool/dask-queue" in done.text

    before = set(kept(env))
    flow_run = env.run_deployment("forecast/daily", {"days": 2})
    assert flow_run["state_type"] == "COMPLETED", env.logs(flow_run["id"])
    [result] = set(kept(env)) - before
    assert result.startswith("_results/")
    back = env.docker("exec", env.name("dask-worker-1"), "python", "-c", READ_BACK, flow_run["id"])
    assert back.splitlines()[-1] == "read back: ['sunny', 'sunny']"
    assert TOKEN not in env.logs(flow_run["id"])
    assert expires(env, result)
    [code] = [name for name in kept(env) if name.endswith("/weather.py")]
    assert not expires(env, code)

    # The stack's own is refused, and connect leads there from a desk.
    done = env.run("scripts/connect", "--stack", env.stack, "--", "scripts/deploy-flow", "flows/greetings")
    assert "greetings/cli-deployment: on dask-pool/dask-queue" in done.text
    deployments[0] |= {"name": "test-deployment", "entrypoint": "weather.py:greetings"}
    (project / "weather.py").write_text(FLOW.replace("forecast", "greetings"))
    (project / "prefect.yaml").write_text(yaml.safe_dump({"deployments": deployments}))
    done = run(["scripts/deploy-flow", str(project)], env.root, given, timeout=120)
    assert done.code == 1
    assert f"managed by the settings of {NAMESPACE}/{env.stack}" in done.text


def test_an_up_leaves_alone_what_is_not_its_own(env: Environment) -> None:
    env.write_settings(retention=None)  # The secret goes with it.
    env.apply("--refresh")
    assert [each["active"] for each in greetings(env)["schedules"]] == [False]
    assert env.http("/deployments/name/forecast/daily")["entrypoint"] == "weather.py:forecast"
    blocks = env.http("/block_documents/filter", {})
    assert "weather-token" not in {each["name"] for each in blocks}
    assert env.minio().get_bucket_lifecycle("flows") is None
    for name in ("forecast/daily", "greetings/cli-deployment"):
        env.http(f"/deployments/{env.http(f'/deployments/name/{name}')['id']}", method="DELETE")


def kept(env: Environment) -> list[str]:
    return [str(each.object_name) for each in env.minio().list_objects("flows", recursive=True)]


def expires(env: Environment, name: str) -> bool:
    return "x-amz-expiration" in (env.minio().stat_object("flows", name).metadata or {})
