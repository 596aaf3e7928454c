"""Who may come in by the front door: Authelia, its users, and which of them see what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from settings.model import PORT_MAX, MemoryMb, Model, url_of
from settings.proxy import HostLabel

UserName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
ARGON2ID: Final = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")


class AuthMode(StrEnum):
    """Whose Authelia asks people who they are."""

    NONE = "none"
    MANAGED = "managed"
    EXTERNAL = "external"


class AuthEndpoint(StrEnum):
    """What Caddy asks Authelia by: the first is of all versions below 5, the second of 4.38 and later."""

    VERIFY = "verify"
    FORWARD_AUTH = "forward-auth"


class Policy(StrEnum):
    """How much of a log-in a host wants."""

    ONE_FACTOR = "one_factor"
    TWO_FACTOR = "two_factor"


class Storage(StrEnum):
    """Where Authelia keeps second factors and failed attempts."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


class ExternalAuthSettings(Model):
    """An Authelia that is there already."""

    address: str = Field(
        "authelia:9091", pattern=r"^[A-Za-z0-9.-]+:\d+$", description="`host:port` as Caddy reaches it"
    )
    portal: str = Field(description="URL of its portal, where people log in")
    endpoint: AuthEndpoint = Field(
        AuthEndpoint.VERIFY,
        description="`verify`: /api/verify?rd=<portal>; `forward-auth`: /api/authz/forward-auth, of 4.38 and later",
    )

    @field_validator("portal")
    @classmethod
    def _is_https(cls, portal: str) -> str:
        url = url_of(portal)
        if url.scheme != "https" or not url.hostname or url.query or re.search(r"[\s{}\"]", portal):
            raise ValueError(f"{portal} is no portal's URL. Write https://host/")
        return portal


class UserSettings(Model):
    """A person who may log in; `scripts/user` writes one."""

    display_name: str | None = Field(None, description="default: the user's name")
    email: str = Field(pattern=r"^[^\s@]+@[^\s@]+$", description="where links to enrol a second factor are sent")
    password_hash: SecretStr = Field(description="argon2id, as `scripts/user add` makes it")
    groups: tuple[GroupName, ...] = Field((), description="what `auth.access` asks for")
    disabled: bool = Field(False, description="may not log in, and is out at the next `up`")

    @field_validator("password_hash")
    @classmethod
    def _is_a_hash(cls, hashed: SecretStr) -> SecretStr:
        if not ARGON2ID.fullmatch(hashed.get_secret_value()):
            raise ValueError("it is no argon2id hash, and nobody could log in with it. Let `scripts/user add` make it")
        return hashed


class AccessSettings(Model):
    """Who may see a host."""

    groups: tuple[GroupName, ...] = Field((), description="a user is in one of them; none: every user")
    policy: Policy = Field(Policy.ONE_FACTOR, description="`one_factor`: password; `two_factor`: and a second one")


class AccessByHost(Model):
    """The hosts that ask for a log-in."""

    tasks: AccessSettings = AccessSettings()
    storage_console: AccessSettings = AccessSettings()
    metrics: AccessSettings = AccessSettings()
    """Of Prometheus and Grafana."""


class SmtpSettings(Model):
    """A mail server that takes what the stack sends."""

    host: str = Field(pattern=r"^[A-Za-z0-9.-]+$", description="its name; TLS is asked for")
    port: int = Field(587, ge=1, le=PORT_MAX, description="587: STARTTLS; 465: TLS from the start")
    user: str | None = Field(None, description="who signs in; default: nobody")
    password: SecretStr | None = Field(None, description="of that user")
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$", description="the address that mails come from")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("password: user and password go together. Give both or neither")
        return self


class AuthSettings(Model):
    """The log-in that stands before Prefect's UI and MinIO's console."""

    mode: AuthMode = Field(
        AuthMode.NONE,
        description="`managed`: an Authelia of the stack's own; `external`: one that is there already; `none`: no "
        "log-in, which a proxy that is open to others refuses",
    )
    external: ExternalAuthSettings | None = Field(None, description="with mode external: where it is")
    portal: HostLabel = Field("auth", description="host of the managed portal, below proxy.domain")
    users: Mapping[UserName, UserSettings] = Field({}, description="who may log in, by name")
    access: AccessByHost = AccessByHost()
    storage: Storage = Field(
        Storage.SQLITE, description="`sqlite`: a volume; `postgres`: a database of its own in the stack's Postgres"
    )
    smtp: SmtpSettings | None = Field(None, description="sends mails; default: they are written to a file")
    memory_mb: MemoryMb = 256

    @property
    def in_postgres(self) -> bool:
        """Whether Authelia has a database in the stack's Postgres."""
        return self.mode is AuthMode.MANAGED and self.storage is Storage.POSTGRES

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = []
        if (self.mode is AuthMode.EXTERNAL) != bool(self.external):
            problems.append("external: it goes with mode external, and only with that. Give both or neither")
        if self.mode is AuthMode.MANAGED:
            if not any(not user.disabled for user in self.users.values()):
                problems.append("users: nobody could log in. Add somebody with `scripts/user add NAME`")
            known = {group for user in self.users.values() for group in user.groups}
            for host, access in self.access:
                if access.groups and not known.intersection(access.groups):
                    problems.append(
                        f"access.{host}.groups: no user is in {' or '.join(access.groups)}, so nobody would see it. "
                        "Put somebody in with `scripts/user add NAME --group GROUP`"
                    )
        if problems:
            raise ValueError("\n".join(problems))
        return self
