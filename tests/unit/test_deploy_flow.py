"""What scripts/deploy-flow reads: a prefect.yaml, and its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from outputs import Outputs
from scripts.lib.deploy_flow import NEEDED, from_environment, pull_steps, read
from scripts.lib.ui import Failure
from tests.unit.recorder import ROOT

LEAST = {"name": "nightly", "entrypoint": "flow.py:main", "work_pool": {"name": "dask-pool"}}
ENVIRONMENT = dict(
    zip(NEEDED, ["https://api.example/api/", "admin:x", "https://storage.example/", "key", "secret"], strict=True)
)


DOCS = (ROOT / "docs" / "deploy-flows.md").read_text()


def test_the_least_in_the_docs_is_enough(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(
        "name: etl\n" + re.findall(r"```yaml\n(deployments:.*?)```", DOCS, re.DOTALL)[0]
    )
    [deployment] = read(tmp_path).deployments
    assert (deployment.name, deployment.work_pool.work_queue_name) == ("nightly", "dask-queue")


def test_the_docs_name_every_variable_and_the_output_that_it_is() -> None:
    rows = re.findall(r"^\| `([A-Z_0-9]+)` \| `(\w+)` \| (?:`(\w+)` )?\|$", DOCS, re.MULTILINE)
    assert [name for name, *_ in rows] == list(NEEDED)
    assert {output for _, *named in rows for output in named if output} <= Outputs.__annotations__.keys()


def written(directory: Path, *deployments: object, **others: object) -> Path:
    (directory / "prefect.yaml").write_text(yaml.safe_dump({"deployments": list(deployments), **others}))
    return directory


def test_the_shipped_project_can_be_deployed() -> None:
    project = read(ROOT / "flows" / "greetings")
    assert (project.name, [each.name for each in project.deployments]) == ("greetings", ["cli-deployment"])


def test_what_prefect_init_leaves_empty_is_as_good_as_not_there(tmp_path: Path) -> None:
    empty: Mapping[str, object] = {
        "version": None,
        "tags": [],
        "schedule": {},
        "description": "",
        "concurrency_limit": None,
    }
    pool: Mapping[str, object] = {"name": "dask-pool", "work_queue_name": None, "job_variables": {}}
    project = read(
        written(tmp_path, {**LEAST, **empty, "work_pool": pool}, name="etl", build=None, push=[{"a": "{{ b }}"}])
    )
    [deployment] = project.deployments
    assert project.name == "etl"
    assert (deployment.work_pool.work_queue_name, deployment.schedules, deployment.tags) == ("default", (), ())


def test_schedules_are_those_of_the_settings(tmp_path: Path) -> None:
    schedules = [{"interval": 600, "active": False}, {"cron": "0 6 * * *", "timezone": "Europe/Warsaw"}]
    [deployment] = read(written(tmp_path, {**LEAST, "schedules": schedules}, name="etl")).deployments
    assert [each.asked() for each in deployment.schedules] == [
        {"interval_seconds": 600, "active": False},
        {"cron": "0 6 * * *", "timezone": "Europe/Warsaw"},
    ]


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        ({**LEAST, "job_variables": {"a": 1}}, "deployments.0.job_variables: this is not one of those that are taken"),
        ({**LEAST, "work_pool": {"name": "p", "job_variables": {"a": 1}}}, "deployments.0.work_pool.job_variables: "),
        ({**LEAST, "schedules": [{"rrule": "FREQ=DAILY"}]}, "deployments.0.schedules.0.rrule: "),
        ({**LEAST, "tags": ["{{ $USER }}"]}, "{{ $USER }} is filled in by `prefect deploy` alone"),
        ({"name": "nightly", "entrypoint": "flow.py:main"}, "deployments.0.work_pool: Field required"),
    ],
)
def test_what_it_would_leave_out_is_refused(tmp_path: Path, deployment: object, told: str) -> None:
    with pytest.raises(Failure) as caught:
        read(written(tmp_path, deployment, name="etl"))
    assert "prefect.yaml can't be used:\n  - deployments" in str(caught.value)
    assert told in str(caught.value)


def test_a_directory_without_deployments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"prefect\.yaml: No such file or directory\. It names the deployments"):
        read(tmp_path)
    with pytest.raises(Failure, match=r"- deployments: "):
        read(written(tmp_path, name="etl"))
    with pytest.raises(Failure, match=r"- name: "):
        read(written(tmp_path, LEAST, name="Not a name"))


def test_what_is_missing_in_the_environment_is_named_all_at_once() -> None:
    with pytest.raises(Failure) as caught:
        from_environment({**ENVIRONMENT, "PREFECT_API_URL": "", "AWS_ACCESS_KEY_ID": ""})
    text = str(caught.value)
    assert [name for name in NEEDED if f"\n  {name} " in text] == ["PREFECT_API_URL", "AWS_ACCESS_KEY_ID"]
    assert "scripts/connect --stack NAME -- scripts/deploy-flow PATH" in text


def test_the_environment_leads_to_two_servers() -> None:
    servers = from_environment({**ENVIRONMENT, "AWS_CA_BUNDLE": "/ca.pem"})
    assert servers.prefect == {"server": "api.example", "url": "https://api.example/api", "auth": "admin:x"}
    assert servers.store == {
        "server": "storage.example",
        "url": "https://storage.example",
        "access_key": "key",
        "secret_key": "secret",
        "region": "us-east-1",
        "ca_bundle": "/ca.pem",
    }


def test_no_key_is_kept_in_a_deployment() -> None:
    [step] = pull_steps("_deployed/etl/0123456789abcdef")
    [inputs] = step.values()
    assert isinstance(inputs, dict)
    assert inputs["url"].endswith(".basepath }}/_deployed/etl/0123456789abcdef")
    assert all("{{ prefect.blocks.remote-file-system.dask-block." in inputs[name] for name in ("key", "secret"))
