"""A secret that is made once and lives in the state alone."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import ClassVar, Final

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, UpdateResult

from providers.base import Declared, DeclaredProvider, Props, Resource, Value, normalised

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


class GeneratedSecretProvider(DeclaredProvider[GeneratedSecretArgs]):
    """Calls no server and never waits: containers are waiting for it."""

    args_type = GeneratedSecretArgs
    kind = "generated secret"
    rules: ClassVar = {"length": length}

    def create(self, props: Props) -> CreateResult:
        new = normalised(props)
        return CreateResult("generated", new | {"value": self._make(new)})

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, normalised(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        new = normalised(_news)
        return UpdateResult(new | {"value": self._make(new)})

    def _make(self, props: Props) -> str:
        return "".join(secrets.choice(ALPHABET) for _ in range(self.args(props).length))


class GeneratedSecret(Resource, name="GeneratedSecret"):
    """A random secret, e.g. a password; it has no copy outside the state."""

    value: pulumi.Output[str]

    def __init__(
        self, name: str, args: GeneratedSecretArgs | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            GeneratedSecretProvider(),
            name,
            args or GeneratedSecretArgs(),
            opts,
            secret=("value",),
            computed=("value",),
        )
