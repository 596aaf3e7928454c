"""scripts/deploy-flow against real servers, as the user whom flows are: one bucket, and Prefect's API."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from components.flow_storage import BLOCK, BLOCK_TYPE, bucket_policy
from providers.prefect.server import marked
from scripts.lib.deploy_flow import NEEDED, deploy
from scripts.lib.ui import Failure
from tests.integration.conftest import RunningMinio
from tests.integration.harness import Props
from tests.integration.prefect_server import AUTH, RunningPrefect

FLOW = """
from helper import word
from prefect import flow

@flow(name="Say it")
def main(times: int = 1):
    print(word * times)
"""


@dataclass(frozen=True)
class Place:
    """A bucket, a queue, and a directory of flows for them."""

    prefect: RunningPrefect
    minio: RunningMinio
    bucket: str
    pool: str
    directory: Path

    def write(self, **changes: object) -> None:
        deployment = {
            "name": self.pool,
            "entrypoint": "say.py:main",
            "parameters": {"times": 2},
            "schedules": [{"cron": "0 6 * * *"}],
            "work_pool": {"name": self.pool, "work_queue_name": "own"},
        }
        (self.directory / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [{**deployment, **changes}]}))

    def deployment(self) -> Props:
        return self.prefect[f"/deployments/name/Say it/{self.pool}"]

    def objects(self) -> list[str]:
        listed = self.minio.s3.list_objects(bucket_name=self.bucket, recursive=True)
        return [str(each.object_name) for each in listed]


@pytest.fixture(name="place")
def _place(
    prefect_server: RunningPrefect, minio_server: RunningMinio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    bucket, user = f"bucket-{secrets.token_hex(4)}", f"user-{secrets.token_hex(4)}"
    password, key, pool = secrets.token_hex(12), secrets.token_hex(8), f"pool-{secrets.token_hex(4)}"
    url = minio_server.connection["url"]
    minio_server.s3.make_bucket(bucket_name=bucket)
    minio_server.admin.user_add(user, password)
    minio_server.admin.policy_add(bucket, policy=bucket_policy(bucket))
    minio_server.admin.attach_policy([bucket], user=user)
    MinioAdmin(
        endpoint=url.removeprefix("http://"), credentials=StaticProvider(user, password), secure=False
    ).add_service_account(access_key=key, secret_key=password)
    given = [prefect_server.connection["url"], AUTH, url, key, password]
    for name, value in zip(NEEDED, given, strict=True):
        monkeypatch.setenv(name, value)
    named = prefect_server.get(f"/block_types/slug/{BLOCK_TYPE}/block_documents/name/{BLOCK}")
    if named:
        prefect_server.send("DELETE", f"/block_documents/{named['id']}")
    kind = prefect_server[f"/block_types/slug/{BLOCK_TYPE}"]["id"]
    [schema, *_] = prefect_server.api.post(
        "/block_schemas/filter", json={"block_schemas": {"block_type_id": {"any_": [kind]}}}
    ).json()  # fmt: skip
    data = {"basepath": f"s3://{bucket}", "settings": {"key": key, "secret": password}}
    block = {"name": BLOCK, "data": data, "block_type_id": kind, "block_schema_id": schema["id"]}
    prefect_server.send("POST", "/block_documents/", block)
    prefect_server.send("POST", "/work_pools/", {"name": pool, "type": "process"})
    prefect_server.send("POST", f"/work_pools/{pool}/queues", {"name": "own"})
    directory = tmp_path / "say-it"
    directory.mkdir()
    (directory / "say.py").write_text(FLOW)
    (directory / "helper.py").write_text("word = 'hello'\n")
    place = Place(prefect_server, minio_server, bucket, pool, directory)
    place.write()
    return place


def test_code_goes_to_the_bucket_and_deployments_to_prefect(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(place.directory, force=False) == 0
    told = capsys.readouterr().out
    assert f"✓ Say it/{place.pool}: on {place.pool}/own" in told
    assert f"! no worker has asked for work of {place.pool}/own lately" in told
    first = place.deployment()
    place_of_code = f"_deployed/say-it/{first['version']}"
    assert place.objects() == [f"{place_of_code}/{name}" for name in ("helper.py", "prefect.yaml", "say.py")]
    assert place_of_code in json.dumps(first["pull_steps"])
    assert (first["work_pool_name"], first["work_queue_name"]) == (place.pool, "own")
    assert first["parameters"] == {"times": 2}
    assert list(first["parameter_openapi_schema"]["properties"]) == ["times"]
    assert first["description"] == ""

    # Somebody pauses it in the UI; the next code comes beside the former, which runs may be reading.
    schedule = first["schedules"][0]
    place.prefect.send("PATCH", f"/deployments/{first['id']}/schedules/{schedule['id']}", {"active": False})
    (place.directory / "helper.py").write_text("word = 'good-bye'\n")
    assert deploy(place.directory, force=False) == 0
    second = place.deployment()
    assert second["id"] == first["id"]
    assert [each["active"] for each in second["schedules"]] == [False]
    assert {name.split("/")[2] for name in place.objects()} == {first["version"], second["version"]}


def test_what_the_settings_manage_is_left_alone_unless_told(place: Place) -> None:
    flow = place.prefect.send("POST", "/flows/", {"name": "Say it"})["id"]
    theirs = {"name": place.pool, "flow_id": flow, "description": marked("Ours", "prefect-environment/prod")}
    place.prefect.send("POST", "/deployments/", theirs)
    with pytest.raises(Failure, match=r"managed by the settings of prefect-environment/prod.*--force"):
        deploy(place.directory, force=False)
    assert place.objects() == []
    assert place.deployment()["entrypoint"] is None
    assert deploy(place.directory, force=True) == 0
    # It is still theirs: their next `up --refresh` brings it back.
    assert place.deployment()["description"] == marked(None, "prefect-environment/prod")
    assert place.deployment()["entrypoint"] == "say.py:main"


def test_a_queue_that_is_not_there_is_named_before_anything_is_done(place: Place) -> None:
    place.write(work_pool={"name": place.pool, "work_queue_name": "dask-queue"})
    with pytest.raises(Failure, match=rf"no queue dask-queue in a pool {place.pool}.*the pools are: .*{place.pool}"):
        deploy(place.directory, force=False)
    place.write(schedules=[{"cron": "often"}])
    with pytest.raises(Failure, match=rf"deployment {place.pool} can't be used:\n  - schedules: 'often' is no cron"):
        deploy(place.directory, force=False)
    place.write(entrypoint="say.py:nobody")
    with pytest.raises(Failure, match=r"the name of say\.py:nobody can't be read"):
        deploy(place.directory, force=False)
    assert place.objects() == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "AWS_SECRET_ACCESS_KEY",
            "wrong-secret-key",
            r"The store at .* refuses the credentials: SignatureDoesNotMatch",
        ),
        ("PREFECT_API_AUTH_STRING", "admin:wrong", r"Prefect at .* refuses the credentials: HTTP 401"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", r"Prefect does not answer at http"),
    ],
)
def test_what_can_not_be_reached_is_named_with_the_variables(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setattr("scripts.lib.deploy_flow.SERVER_SECONDS", 0.5)
    # Prefect is asked for it in a process of its own, whose start is most of what this takes.
    monkeypatch.setattr("scripts.lib.deploy_flow.flow_name", lambda *_: "Say it")
    monkeypatch.setenv(name, value)
    with pytest.raises(Failure, match=told) as caught:
        deploy(place.directory, force=False)
    assert name in str(caught.value)
    assert "wrong" not in str(caught.value)
