"""The flow of scripts/user: people who may log in, in a stack's settings."""

import getpass
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.lib import stacks
from scripts.lib.paths import ROOT, VENV
from scripts.lib.process import finish
from scripts.lib.setup import set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, say

SHORTEST = 8
"""Characters of a password, at least."""
GENERATED_BYTES = 18
CHECK_SECONDS = 60.0


@dataclass(frozen=True)
class Given:
    """What was given of a user; None for what stays as it is."""

    display_name: str | None
    email: str | None
    groups: Sequence[str] | None


def add(wanted: str | None, name: str, given: Given, *, generate: bool) -> int:
    """Put a user into the settings, or change the password and what is given of one that is there.

    Raises:
        Failure: the name or a field can't be used, or the password is too short; nothing was changed.
    """
    stack = _stack(wanted)
    known = _users(stack.name).get(name)
    email = given.email or (known or {}).get("email")
    if not email:
        raise Failure(f"{name} is new: say where mails go to, with --email ADDRESS.")
    password = secrets.token_urlsafe(GENERATED_BYTES) if generate else _ask(name)
    fields = {"display_name": given.display_name, "email": email, "groups": given.groups or []}
    hashed = _checked({"name": name, "password": password, **fields})
    entry = _Entry(stack, name)
    # First what a new user can't be without.
    entry.set("email", email)
    entry.set("password_hash", hashed, secret=True)
    if given.display_name is not None:
        entry.set("display_name", given.display_name)
    if given.groups is not None:
        if known and "groups" in known:
            entry.remove("groups")
        for index, group in enumerate(given.groups):
            entry.set(f"groups[{index}]", group)
    if known and "disabled" in known:
        entry.remove("disabled")
    if generate:
        say(f"The password, which is shown this once: {password}")
    _tell(stack.name, f"{name} {'is changed' if known else 'is new'}")
    return 0


def disable(wanted: str | None, name: str) -> int:
    """Let a user log in no more; the entry stays.

    Raises:
        Failure: there is no such user.
    """
    stack = _stack(wanted)
    known = _users(stack.name)
    if name not in known:
        raise Failure(f"There is no user {name} in {_file(stack.name)}. It has: {', '.join(known) or 'none'}.")
    _Entry(stack, name).set("disabled", "true", kind="bool")
    _tell(stack.name, f"{name} is disabled")
    return 0


class _Entry:
    """A user's entry in the settings file, which Pulumi changes: it encrypts what is secret."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self._path = f'{PROJECT}:auth.users["{name}"]'

    def set(self, field: str, value: str, *, kind: str = "string", secret: bool = False) -> None:
        how = ["--secret"] if secret else ["--type", kind]
        self._stack.pulumi("config", "set", "--path", f"{self._path}.{field}", *how, given=value)

    def remove(self, field: str) -> None:
        self._stack.pulumi("config", "rm", "--path", f"{self._path}.{field}")


def _stack(wanted: str | None) -> Stack:
    ready = set_up(wanted, Consent(given=False), images=False, engines=False)
    stack = Stack(ready.stack, ready.env)
    stack.ensure()
    return stack


def _file(stack: str) -> str:
    return stacks.tracked(stack).name


def _auth(stack: str) -> Mapping[str, Any]:
    auth = stacks.configuration(stack).get(f"{PROJECT}:auth")
    return auth if isinstance(auth, Mapping) else {}


def _users(stack: str) -> Mapping[str, Mapping[str, Any]]:
    return _auth(stack).get("users") or {}


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    elif (password := getpass.getpass(f"Password of {name}: ")) != getpass.getpass("Again: "):
        raise Failure("The two differ; nothing was changed.")
    if len(password) < SHORTEST:
        raise Failure(f"A password has {SHORTEST} characters or more; nothing was changed.")
    return password


def _checked(fields: Mapping[str, object]) -> str:
    """The password's hash, if the settings take the user."""
    ended = finish(
        [VENV / "bin" / "python", "-m", "scripts.lib.user_entry"],
        timeout=CHECK_SECONDS,
        cwd=ROOT,
        given=json.dumps(fields),
    )
    if ended.code:
        raise Failure(f"Nothing was changed, as the settings would be refused:\n  {ended.errors.strip()}")
    return ended.output.strip()


def _tell(stack: str, what: str) -> None:
    say(f"{what} in {_file(stack)}.")
    if _auth(stack).get("mode") != "managed":
        say("Nobody is asked to log in yet: auth.mode is not `managed` there, see docs/log-in.md.")
    say(f"`scripts/up --stack {stack}` applies it; everybody logs in anew then.")
