"""A stranger's second project: one directory, one YAML entry, one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.environment import Environment, docker

pytestmark = pytest.mark.xdist_group("first")

FLOW = """\
import pandas as pd
from helper import doubled
from prefect import flow, task


@task(persist_result=True)
def total(numbers):
    return int(pd.Series(numbers).sum())


@flow(log_prints=True, persist_result=True)
def sums(numbers: list[int] = [1, 2, 3]):
    result = doubled(total(numbers))
    print(f"pandas {pd.__version__} says {result}")
    return result
"""
READ_BACK = """\
import sys
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print("read back:", client.read_flow_run(sys.argv[1]).state.result())
"""


def ids(env: Environment) -> dict[str, str]:
    return {
        name: docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name) for name in env.objects("container")
    }


def test_it_runs_with_its_packages_and_restarts_nobody(env: Environment, tmp_path: Path) -> None:
    project = tmp_path / "sums"
    project.mkdir()
    (project / "sums.py").write_text(FLOW)
    (project / "helper.py").write_text("def doubled(number):\n    return 2 * number\n")
    (project / "requirements.txt").write_text("pandas==2.3.3\n")
    before = ids(env)
    flows = {
        **env.settings["flows"],
        "sums": {
            "path": str(project),
            "deployments": {
                "nightly": {
                    "entrypoint": "sums.py:sums",
                    "schedules": [{"cron": "0 3 * * *", "timezone": "Europe/Warsaw"}],
                }
            },
        },
    }
    shipped = env.settings["flows"]
    env.write_settings(flows=flows)
    try:
        env.up()

        after = ids(env)
        assert set(after) - set(before) == {env.name("prefect-worker-sums-1")}
        assert {name: after[name] for name in before} == before

        [schedule] = env.http("/deployments/name/sums/nightly")["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * *", "Europe/Warsaw")
        assert schedule["active"] is True

        flow_run = env.run_deployment("sums/nightly", {"numbers": [4, 5]})
        assert flow_run["state_type"] == "COMPLETED", env.logs(flow_run["id"])
        assert "pandas 2.3.3 says 18" in env.logs(flow_run["id"])

        other = env.name("dask-worker-1")
        assert docker("exec", other, "python", "-c", READ_BACK, flow_run["id"]).splitlines()[-1] == "read back: 18"
    finally:
        env.write_settings(flows=shipped)
        env.apply()
    assert set(ids(env)) == set(before)


HOG = """\
from prefect import flow

@flow
def hog():
    bytearray(4_000_000_000).count(1)
"""


def test_a_run_that_takes_too_much_memory_is_named_with_the_setting(env: Environment, tmp_path: Path) -> None:
    project = tmp_path / "hogs"
    project.mkdir()
    (project / "hog.py").write_text(HOG)
    shipped = env.settings["flows"]
    hog = {"path": str(project), "worker": "dask", "deployments": {"hog": {"entrypoint": "hog.py:hog"}}}
    env.write_settings(flows={**shipped, "hogs": hog})
    try:
        env.apply()
        killed = env.smoke("--deployment", "hog/hog", "--timeout", "120", ok=False)
        assert killed.code != 0
        assert "workers.dask.memory_mb" in killed.text, killed.text
    finally:
        env.write_settings(flows=shipped)
        env.apply()
    env.smoke()
