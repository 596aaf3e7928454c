"""minio.mode and postgres.mode external: what is made then, what is not, and what the settings refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from components.prefect_client import CA_BUNDLE
from providers.data_contract import DataContractProvider
from settings import SettingsError, parse
from tests.unit.recorder import Recorded, plain, record, revealed
from tests.unit.test_components import BUILD, containers, env, networks

pytestmark = pytest.mark.usefixtures("_project")

STORE: Mapping[str, Any] = {
    "endpoint": "https://s3.example:9443",
    "region": "eu-central-1",
    "access_key": "their-key",
    "secret_key": "their-secret-key",
}
DATABASE: Mapping[str, Any] = {"host": "db.example", "user": "their_user", "password": "their-password"}
MINIO = {"mode": "external", "bucket": "their-bucket", "external": STORE}
POSTGRES = {"mode": "external", "external": DATABASE}
IN_MANAGED = {"Bucket", "User", "Policy", "PolicyAttachment", "AccessKey"}


def recorded(**settings: Any) -> list[Recorded]:
    return record({**BUILD, **settings}, secret=("minio", "postgres"))


def terms(resources: list[Recorded], name: str) -> Recorded:
    [found] = [r for r in resources if r.kind == "DataContract" and r.name == name]
    return found


def test_a_store_elsewhere_gets_code_and_nothing_else() -> None:
    resources = recorded(minio=MINIO)
    assert not IN_MANAGED & {r.kind for r in resources}
    assert "minio" not in {r.name for r in resources if r.kind in {"Container", "RemoteImage"}}
    assert "minio-data" not in {r.name for r in resources if r.kind == "Volume"}
    assert not [r.name for r in resources if r.kind == "GeneratedSecret" and "minio" in r.name]
    [code] = [r for r in resources if r.kind == "ObjectTree"]
    connection = revealed(code.inputs["connection"])
    assert connection == {
        "server": "https://s3.example:9443",
        "url": "https://s3.example:9443",
        "access_key": "their-key",
        "secret_key": "their-secret-key",
        "region": "eu-central-1",
    }
    assert code.inputs["bucket"] == "their-bucket"
    assert code.deleted_with == ""


def test_flows_reach_a_store_elsewhere_with_its_key() -> None:
    resources = recorded(minio=MINIO)
    blocks = {r.inputs["block"]: revealed(r.inputs["data"]) for r in resources if r.kind == "Block"}
    assert blocks["dask-block"] == {
        "basepath": "s3://their-bucket",
        "settings": {
            "key": "their-key",
            "secret": "their-secret-key",
            "client_kwargs": {"endpoint_url": "https://s3.example:9443", "region_name": "eu-central-1"},
        },
    }
    assert set(blocks) == {"dask-block", "flow-results", "greetings-code"}
    for name in ("prefect-worker-dask-1", "dask-worker-1", "prefect-cli"):
        assert env(containers(resources)[name])["AWS_CA_BUNDLE"] == CA_BUNDLE


def test_pulumi_trusts_the_authorities_that_containers_trust(tmp_path: Any) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    resources = recorded(minio=MINIO, images={"source": "build", "ca_bundle": str(bundle)})
    [code] = [r for r in resources if r.kind == "ObjectTree"]
    assert revealed(code.inputs["connection"])["ca_bundle"] == str(bundle)


def test_a_database_elsewhere_is_all_that_the_server_is_told() -> None:
    resources = recorded(postgres=POSTGRES)
    assert not [r.name for r in resources if "postgres" in r.name and r.kind in {"Container", "RemoteImage", "Volume"}]
    assert "database-network" not in {r.name for r in resources if r.kind == "Network"}
    server = containers(resources)["prefect-server"]
    assert {key: value for key, value in env(server).items() if "_DATABASE_" in key} == {
        "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
        "PREFECT_SERVER_DATABASE_HOST": "db.example",
        "PREFECT_SERVER_DATABASE_NAME": "prefect",
        "PREFECT_SERVER_DATABASE_PASSWORD": "their-password",
        "PREFECT_SERVER_DATABASE_PORT": "5432",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED": "true",
        "PREFECT_SERVER_DATABASE_USER": "their_user",
    }
    assert server["command"][:2] == ["wait-for", "db.example:5432"]
    assert "database-network" not in networks(server)


def test_their_secrets_are_sent_as_secrets() -> None:
    resources = recorded(minio=MINIO, postgres=POSTGRES)
    sent = json.dumps([revealed(r.inputs) for r in resources])
    assert "their-secret-key" in sent
    assert "their-password" in sent
    shown = json.dumps([plain(r.inputs) for r in resources])
    assert "their-secret-key" not in shown
    assert "their-password" not in shown


@pytest.mark.parametrize(
    ("name", "section", "external"),
    [("minio-data-terms", "minio", MINIO), ("postgres-data-terms", "postgres", POSTGRES)],
)
def test_a_switch_of_the_mode_is_refused_both_ways(name: str, section: str, external: Mapping[str, Any]) -> None:
    """The stack's own and the other have one URN, so that the new terms are compared with the old ones."""
    managed, other = terms(recorded(), name), terms(recorded(**{section: external}), name)
    assert managed.urn == other.urn
    assert managed.protect
    assert other.protect
    for old, new in ((managed, other), (other, managed)):
        [failure] = DataContractProvider().check(dict(old.inputs), dict(new.inputs)).failures
        assert f"{section}.mode from " in failure.reason
        assert "what was stored so far would stay behind" in failure.reason
        assert "Nothing was changed. Set it back" in failure.reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"minio": {"mode": "external"}},
            "minio.external: mode external needs to know where it is and who may use it. Name both there",
        ),
        (
            {"postgres": {"external": DATABASE}},
            "postgres.external: with mode managed it would not be used. Remove it, or set mode: external",
        ),
        (
            {"minio": {**MINIO, "data_directory": "/data"}},
            "minio.data_directory: the external store keeps its own data; it would not be used. Remove it",
        ),
        (
            {"minio": {**MINIO, "external": {**STORE, "endpoint": "https://s3.example/bucket"}}},
            (
                "minio.external.endpoint: https://s3.example/bucket is no endpoint. Write https://host or "
                "https://host:port, and no more"
            ),
        ),
        (
            {"minio": {**MINIO, "external": {**STORE, "endpoint": "http://localhost:9000"}}},
            (
                "minio.external.endpoint: localhost is each container's own loopback, where nothing answers. Give an "
                "address that containers reach"
            ),
        ),
        (
            {"postgres": {**POSTGRES, "external": {**DATABASE, "host": "postgresql://db.example/prefect"}}},
            (
                "postgres.external.host: postgresql://db.example/prefect is no host's name or address. Give that "
                "alone; port and database have settings"
            ),
        ),
        (
            {"postgres": {**POSTGRES, "external": {**DATABASE, "host": "127.0.0.1"}}},
            (
                "postgres.external.host: 127.0.0.1 is each container's own loopback, where nothing answers. Give an "
                "address that containers reach"
            ),
        ),
        ({"minio": {"mode": "theirs"}}, "minio.mode: Input should be 'managed' or 'external'"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_error_names_path_consequence_and_fix(values: Mapping[str, object], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(values, "dev")
    assert str(caught.value).splitlines() == ["Pulumi.dev.yaml can't be used:", f"  - {expected}"]


@pytest.mark.parametrize(
    ("section", "value", "path"),
    [("minio", MINIO, "minio.external.secret_key"), ("postgres", POSTGRES, "postgres.external.password")],
)
def test_a_secret_in_plain_text_is_refused(section: str, value: Mapping[str, Any], path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        record({**BUILD, section: value})
    assert f"{path}: it is in plain text" in str(caught.value)
    assert f"config set --secret --path 'prefect-environment:{path}'" in str(caught.value)
    assert "their-" not in str(caught.value)
