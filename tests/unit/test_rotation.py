"""What a rotation changes, and what it leaves as it is; and what scripts/rotate refuses and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.lib import rotate, stacks
from scripts.lib.rotate import CREDENTIALS
from scripts.lib.setup import Ready
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure
from settings import RotationSettings
from tests.unit.recorder import Recorded, is_secret, record, revealed
from tests.unit.test_components import BUILD, containers, env

project = pytest.mark.usefixtures("_project")
LOG_IN = {
    "proxy": {"mode": "managed", "domain": "example.com"},
    "auth": {
        "mode": "managed",
        "storage": "postgres",
        "users": {
            "ada": {
                "email": "ada@example.com",
                "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
            }
        },
    },
}


def recorded(**rotation: int) -> list[Recorded]:
    return record({**BUILD, **LOG_IN, "rotation": rotation}, secret=("auth",))


def versions(resources: list[Recorded]) -> dict[str, int]:
    return {r.name: r.inputs["version"] for r in resources if r.kind == "GeneratedSecret"}


def keys(resources: list[Recorded]) -> dict[str, str]:
    """Id of each access key to its resource's name."""
    return {r.inputs["access_key"]: r.name for r in resources if r.kind == "AccessKey"}


def key_in_blocks(resources: list[Recorded]) -> set[str]:
    data = [revealed(r.inputs)["data"] for r in resources if r.kind == "Block"]
    return {each["settings"]["key"] for each in data if "settings" in each}


@project
@pytest.mark.parametrize(
    ("setting", "secrets"),
    [
        ("postgres", {"postgres-password"}),
        ("minio_root", {"minio-root-password"}),
        ("minio_key", {"prefect-user-secret", "prefect-user-key-secret"}),
        ("api", {"prefect-api-password"}),
        ("authelia", {"authelia-session-secret", "authelia-jwt-secret", "postgres-authelia-password"}),
    ],
)
def test_a_number_makes_its_credentials_anew_and_no_other(setting: str, secrets: set[str]) -> None:
    assert {name for name, version in versions(recorded(**{setting: 2})).items() if version == 2} == secrets


@project
@pytest.mark.parametrize(
    ("generation", "ids", "current"),
    [
        (1, ["prefectuserkey"], "prefectuserkey"),
        (2, ["prefectuserkey", "prefectuserkey2"], "prefectuserkey2"),
        (3, ["prefectuserkey", "prefectuserkey2"], "prefectuserkey"),
    ],
)
def test_two_keys_take_turns(generation: int, ids: list[str], current: str) -> None:
    resources = recorded(minio_key=generation)
    assert sorted(keys(resources)) == ids
    assert keys(resources)["prefectuserkey"] == "prefect-user-key", "stacks of old have it"
    assert key_in_blocks(resources) == {current}


@project
def test_a_credential_of_the_settings_is_known_as_the_former_one_later() -> None:
    resources = record({**BUILD, "server": {"password": "their-password"}}, secret=("server",))
    [kept] = [r for r in resources if r.name == "prefect-api-password"]
    assert revealed(kept.inputs["given"]) == "their-password"
    assert is_secret(kept.inputs["given"])
    server = env(containers(resources)["prefect-server"])
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == "admin:their-password"
    assert server["FORMER_API_AUTH_STRING"].startswith("admin:")


def test_every_number_has_its_name() -> None:
    assert [name.replace("-", "_") for name in CREDENTIALS] == list(RotationSettings.model_fields)


class Desk:
    """A settings file, and what was done with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.calls: list[tuple[str, ...]] = []
        self.ups: list[str | None] = []

    def knows(self, **config: Mapping[str, Any]) -> None:
        self.file.write_text(json.dumps({"config": {f"{PROJECT}:{key}": value for key, value in config.items()}}))


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path / "Pulumi.dev.yaml")
    desk.knows()

    def pulumi(_stack: Stack, *words: str, given: str = "") -> str:
        assert not given
        desk.calls.append(words)
        return ""

    def up(wanted: str | None, *, yes: bool) -> int:
        assert yes
        desk.ups.append(wanted)
        return 0

    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    monkeypatch.setattr(Stack, "pulumi", pulumi)
    monkeypatch.setattr(rotate, "set_up", lambda *_given, **_options: Ready("dev", (), {}))
    monkeypatch.setattr(rotate, "up", up)
    return desk


def test_numbers_are_raised_and_applied_at_once(desk: Desk) -> None:
    desk.knows(rotation={"minio_key": 4})
    assert rotate.rotate("dev", ["minio-key", "api", "api"], yes=True) == 0
    assert desk.calls == [
        ("config", "set", "--path", f"{PROJECT}:rotation.minio_key", "5", "--type", "int"),
        ("config", "set", "--path", f"{PROJECT}:rotation.api", "2", "--type", "int"),
    ]
    assert desk.ups == ["dev"]


@pytest.mark.parametrize(
    ("name", "config", "problem"),
    [
        ("postgres", {"postgres": {"password": {"secure": "v1:..."}}}, r"set in Pulumi.dev.yaml, by you.*\n.*--secret"),
        ("postgres", {"postgres": {"mode": "external"}}, r"`external` in Pulumi.dev.yaml, so it is made elsewhere"),
        ("minio-root", {"minio": {"root_password": {"secure": "v1:..."}}}, r"minio.root_password"),
        ("minio-key", {"minio": {"mode": "external"}}, r"set what minio.external has of it"),
        ("api", {"server": {"password": {"secure": "v1:..."}}}, r"server.password"),
        ("authelia", {}, r"auth.mode is `none`"),
    ],
)
def test_what_is_not_the_stacks_to_make_is_refused_before_anything_is_changed(
    desk: Desk, name: str, config: Mapping[str, Any], problem: str
) -> None:
    desk.knows(**config)
    with pytest.raises(Failure, match=rf"(?s)Nothing was changed.*{problem}"):
        rotate.rotate("dev", ["postgres" if name != "postgres" else "api", name], yes=True)
    assert not desk.calls
    assert not desk.ups


def test_without_a_terminal_it_wants_to_be_told(desk: Desk) -> None:
    with pytest.raises(Failure, match="add --yes"):
        rotate.rotate("dev", ["api"], yes=False)
    assert not desk.calls
