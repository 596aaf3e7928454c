"""scripts/user with the real Pulumi: the settings file that it leaves, and that the program takes it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from scripts.lib import stacks, user
from scripts.lib.environment import pulumi_environment
from scripts.lib.paths import ROOT
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.user import Given
from settings import parse

STACK = "people"
HAND_WRITTEN = """\
config:
  # Ours.
  prefect-environment:proxy: {mode: managed, domain: example.com}
  prefect-environment:auth:
    mode: managed # a comment stays
"""


@pytest.fixture(name="stack")
def _stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    for variable in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", clone)
    (clone / f"Pulumi.{STACK}.yaml").write_text(HAND_WRITTEN)
    env = pulumi_environment()
    monkeypatch.setattr(stacks, "ROOT", clone)
    monkeypatch.setattr(stacks, "LOCAL", clone / ".local")
    stack = Stack(STACK, env)
    stack.init()
    monkeypatch.setattr(user, "_stack", lambda _wanted: stack)
    return stack


def add(monkeypatch: pytest.MonkeyPatch, name: str, given: Given) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("an open door\n"))
    user.add(STACK, name, given, generate=False)


def test_users_come_and_go_in_the_settings_file(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "ada", Given("true", "ada@example.com", ["admins", "007"]))
    add(monkeypatch, "bob.b", Given(None, "bob@example.com", None))
    user.disable(STACK, "bob.b")
    add(monkeypatch, "ada", Given(None, None, ["admins"]))

    text = stacks.tracked(STACK).read_text()
    assert "# Ours." in text
    assert "# a comment stays" in text
    assert "argon2" not in text
    users = yaml.safe_load(text)["config"][f"{PROJECT}:auth"]["users"]
    assert [set(entry["password_hash"]) for entry in users.values()] == [{"secure"}, {"secure"}]

    listed = json.loads(stack.pulumi("config", "--json", "--show-secrets"))
    values = {key.partition(":")[2]: entry["objectValue"] for key, entry in listed.items() if entry.get("objectValue")}
    people = parse(values, STACK).auth.users
    assert {name: (each.display_name, each.groups, each.disabled) for name, each in people.items()} == {
        "ada": ("true", ("admins",), False),
        "bob.b": (None, (), True),
    }
