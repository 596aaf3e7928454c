"""What scripts/user asks for, refuses and keeps; Pulumi is a list of what it was told."""

from __future__ import annotations

import getpass
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from scripts.lib import stacks, user
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure
from scripts.lib.user import Given
from settings.auth import ARGON2ID

PASSWORD = "an open door"
NOTHING = Given(None, None, None)
ADA: Mapping[str, Any] = {"email": "ada@example.com", "password_hash": {"secure": "v1:..."}, "groups": ["old", "older"]}


@dataclass
class Told:
    """A call of Pulumi."""

    words: tuple[str, ...]
    given: str


@dataclass
class Desk:
    """The settings file, and what Pulumi was told to change in it."""

    file: Path
    calls: list[Told] = field(default_factory=list)

    def knows(self, **users: Mapping[str, Any]) -> None:
        auth = {"mode": "managed", "users": users}
        self.file.write_text(json.dumps({"config": {f"{PROJECT}:auth": auth}}))

    def said(self) -> list[tuple[str, str, str]]:
        """Verb, field and value of each call; the hash is named only."""
        return [
            (call.words[1], call.words[3].partition(":")[2], "HASH" if ARGON2ID.fullmatch(call.given) else call.given)
            for call in self.calls
        ]


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path / "Pulumi.dev.yaml")
    desk.knows()
    stack = Stack("dev", {})

    def pulumi(*words: str, given: str = "") -> str:
        desk.calls.append(Told(words, given))
        return ""

    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    monkeypatch.setattr(stacks, "VENV", Path(sys.prefix))
    monkeypatch.setattr(user, "VENV", Path(sys.prefix))
    monkeypatch.setattr(stack, "pulumi", pulumi)
    monkeypatch.setattr(user, "_stack", lambda _wanted: stack)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    return desk


def test_a_new_user(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    user.add("dev", "ada", Given("Ada L.", "ada@example.com", ["admins", "007"]), generate=False)
    assert desk.said() == [
        ("set", 'auth.users["ada"].email', "ada@example.com"),
        ("set", 'auth.users["ada"].password_hash', "HASH"),
        ("set", 'auth.users["ada"].display_name', "Ada L."),
        ("set", 'auth.users["ada"].groups[0]', "admins"),
        ("set", 'auth.users["ada"].groups[1]', "007"),
    ]
    assert "`scripts/up --stack dev` applies it" in capsys.readouterr().out


def test_the_hash_is_a_secret_and_neither_it_nor_the_password_an_argument(desk: Desk) -> None:
    user.add("dev", "ada", Given(None, "ada@example.com", None), generate=False)
    (kept,) = [call for call in desk.calls if "--secret" in call.words]
    assert PasswordHasher().verify(kept.given, PASSWORD)
    words = " ".join(word for call in desk.calls for word in call.words)
    assert PASSWORD not in words
    assert "argon2" not in words


def test_values_stay_text_whatever_they_look_like(desk: Desk) -> None:
    user.add("dev", "ada", Given("true", "ada@example.com", ["007"]), generate=False)
    plain = [call.words for call in desk.calls if "--secret" not in call.words]
    assert all(words[-2:] == ("--type", "string") for words in plain)


def test_a_known_user_keeps_what_is_not_given(desk: Desk) -> None:
    desk.knows(ada=ADA)
    user.add("dev", "ada", NOTHING, generate=False)
    assert [path.rpartition(".")[2] for verb, path, _ in desk.said() if verb == "set"] == ["email", "password_hash"]
    assert desk.said()[0][2] == "ada@example.com"
    assert "rm" not in {verb for verb, _, _ in desk.said()}


def test_groups_replace_the_former_ones(desk: Desk) -> None:
    desk.knows(ada=ADA)
    user.add("dev", "ada", Given(None, None, ["new"]), generate=False)
    assert desk.said()[-2:] == [("rm", 'auth.users["ada"].groups', ""), ("set", 'auth.users["ada"].groups[0]', "new")]


def test_adding_a_disabled_user_lets_them_in_again(desk: Desk) -> None:
    desk.knows(ada={**ADA, "disabled": True})
    user.add("dev", "ada", NOTHING, generate=False)
    assert desk.said()[-1] == ("rm", 'auth.users["ada"].disabled', "")


def test_a_generated_password_is_shown_once_and_fits(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    user.add("dev", "ada", Given(None, "ada@example.com", None), generate=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "shown this once" in line]
    (kept,) = [call.given for call in desk.calls if "--secret" in call.words]
    assert PasswordHasher().verify(kept, line.rpartition(" ")[2])


def test_disabling_keeps_the_entry(desk: Desk) -> None:
    desk.knows(ada=ADA)
    user.disable("dev", "ada")
    (call,) = desk.calls
    assert call == Told(("config", "set", "--path", f'{PROJECT}:auth.users["ada"].disabled', "--type", "bool"), "true")


def test_a_stack_that_asks_nobody_is_told(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.file.write_text("config: {}")
    user.add("dev", "ada", Given(None, "ada@example.com", None), generate=False)
    assert "auth.mode is not `managed`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "given", "what"),
    [
        ("ada", NOTHING, "ada is new: say where mails go to, with --email"),
        ('a"b', Given(None, "ada@example.com", None), "the name: .*pattern"),
        ("ada", Given(None, "nowhere", None), "email: .*pattern"),
        ("ada", Given(None, "ada@example.com", ["two words"]), "groups.0: .*pattern"),
    ],
)
def test_what_the_settings_would_refuse_is_not_written(desk: Desk, name: str, given: Given, what: str) -> None:
    with pytest.raises(Failure, match=rf"(?s){what}"):
        user.add("dev", name, given, generate=False)
    assert desk.calls == []


@pytest.mark.parametrize("password", ["short", ""])
def test_a_short_password_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    with pytest.raises(Failure, match="8 characters or more"):
        user.add("dev", "ada", Given(None, "ada@example.com", None), generate=False)
    assert desk.calls == []


def test_nobody_can_be_disabled_who_is_not_there(desk: Desk) -> None:
    desk.knows(ada=ADA)
    with pytest.raises(Failure, match=r"There is no user bob in Pulumi\.dev\.yaml\. It has: ada"):
        user.disable("dev", "bob")
    assert desk.calls == []


def test_at_a_terminal_the_password_is_asked_for_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([PASSWORD, "another"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(answers))
    with pytest.raises(Failure, match="The two differ"):
        user.add("dev", "ada", Given(None, "ada@example.com", None), generate=False)
    assert desk.calls == []
