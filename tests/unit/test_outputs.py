"""Stack outputs: their names are a promise to other programs."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
import yaml

from outputs import Outputs
from settings import NAMESPACE
from tests.unit.recorder import ROOT, record

pytestmark = pytest.mark.usefixtures("_project")

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g"
FRONT_DOOR = {
    "networks": {"caddy": {"external": "caddy-network"}},
    "proxy": {"mode": "external", "domain": "example.com"},
    "auth": {"mode": "managed", "users": {"ann": {"email": "ann@example.com", "password_hash": HASH}}},
}
"""What has all outputs, with what watches and keeps it."""
KEPT = {
    "backup": {"mode": "managed", "directory": "/srv/backup"},
    "metrics": {"mode": "managed", "grafana": True},
}
FLOWS = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"][f"{NAMESPACE}:flows"]


def exported(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> set[str]:
    names: list[str] = []
    monkeypatch.setattr(pulumi, "export", lambda name, _value: names.append(name))
    record(settings, secret=("auth",))
    return set(names)


def test_every_output_is_declared_and_every_declared_one_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exported(monkeypatch, flows=FLOWS, **KEPT, **FRONT_DOOR) == Outputs.__annotations__.keys()


def test_parts_that_are_off_have_no_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"orion": False, "agent": False, "cli": False, "dask": False}
    assert exported(monkeypatch, profiles=alone) == {
        "bucket_access_key",
        "bucket_secret_key",
        "minio_url",
        "minio_console_url",
        "minio_root_user",
        "minio_root_password",
    }


def test_the_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add to this list; a name that is renamed or removed breaks the programs that read it."""
    assert exported(monkeypatch, flows=FLOWS, **KEPT, **FRONT_DOOR) >= {
        "backup_password",
        "bucket_access_key",
        "bucket_secret_key",
        "caddyfile",
        "cli_command",
        "dask_dashboard_url",
        "deployments",
        "grafana_password",
        "grafana_url",
        "minio_console_url",
        "minio_root_password",
        "minio_root_user",
        "minio_url",
        "portal_url",
        "prefect_api_auth_string",
        "prefect_api_url",
        "prefect_url",
        "prometheus_url",
        "public_api_url",
        "public_dashboards_url",
        "public_metrics_url",
        "public_storage_console_url",
        "public_storage_url",
        "public_url",
    }
