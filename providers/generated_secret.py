"""A secret that is made once, and anew on demand, and lives in the state alone."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import ClassVar, Final

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, UpdateResult

from providers.base import Declared, DeclaredProvider, Props, Resource, Value, normalised
from providers.connection import plain

ALPHABET: Final = string.ascii_letters + string.digits
"""Needs no quoting anywhere: URLs, shells, connection strings."""
SHORTEST: Final = 16
LONGEST: Final = 128


def length(value: Value) -> str | None:
    """Long enough not to be guessed."""
    if isinstance(value, int) and SHORTEST <= value <= LONGEST:
        return None
    return f"must be a whole number from {SHORTEST} to {LONGEST}"


@dataclass(frozen=True)
class GeneratedSecretArgs(Declared):
    """What secret to make; any change makes a new one, in place."""

    length: int = 32
    """Letters and digits, 16 to 128 of them."""
    version: int = 1
    """Raise it to have a new secret."""
    given: pulumi.Input[str] | None = None
    """One to hold instead of making one, so that it is known as the former one later."""


class GeneratedSecretProvider(DeclaredProvider[GeneratedSecretArgs]):
    """Calls no server and never waits: containers are waiting for it."""

    args_type = GeneratedSecretArgs
    kind = "generated secret"
    rules: ClassVar = {"length": length}

    def create(self, props: Props) -> CreateResult:
        new = normalised(props)
        value = self._make(new)
        return CreateResult("generated", new | {"value": value, "former": value})

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, normalised(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        old, new = normalised(_olds), normalised(_news)
        value = self._make(new)
        former = old.get("former") if value == old["value"] else old["value"]
        return UpdateResult(new | normalised({"value": value, "former": former}))

    def _make(self, props: Props) -> str:
        args = self.args(props)
        return plain(args.given) if args.given else "".join(secrets.choice(ALPHABET) for _ in range(args.length))


class GeneratedSecret(Resource, name="GeneratedSecret"):
    """A random secret, e.g. a password; it has no copy outside the state."""

    value: pulumi.Output[str]
    former: pulumi.Output[str | None]
    """What it was before, `value` until it is changed for the first time; None where it is older than this output."""

    def __init__(
        self, name: str, args: GeneratedSecretArgs | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            GeneratedSecretProvider(),
            name,
            args or GeneratedSecretArgs(),
            opts,
            secret=("given", "value", "former"),
            computed=("value", "former"),
        )
