"""What a stack's YAML may say: the one reader of Pulumi's configuration.

Every key below `prefect-environment:` in a `Pulumi.<stack>.yaml` is one field of `Settings`. The models are frozen
and refuse unknown keys; whatever cannot work raises `SettingsError` before any resource is declared, with the
path of the setting, what would happen and how to mend it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import ValidationError

from settings.alerts import AlertSettings, EmailSettings
from settings.auth import (
    AccessSettings,
    AuthEndpoint,
    AuthMode,
    AuthSettings,
    ExternalAuthSettings,
    Policy,
    SmtpSettings,
    Storage,
    UserSettings,
)
from settings.backup import BackupS3Settings, BackupSettings
from settings.flows import CliSettings, FlowSettings, WorkerSettings, requirement_lines
from settings.hosts import EndpointSettings, FurtherHostSettings, HostSettings
from settings.images import ImageSettings, ImageSource
from settings.metrics import MetricsMode, MetricsSettings
from settings.model import NAMESPACE, Model, SettingsError
from settings.proxy import Certificates, ExternalProxySettings, ProxyMode, ProxySettings
from settings.retention import RetentionSettings
from settings.rotation import RotationSettings
from settings.servers import (
    API_USER,
    DaskSettings,
    ExternalMinioSettings,
    ExternalPostgresSettings,
    MinioSettings,
    NetworksSettings,
    PostgresSettings,
    ServerSettings,
)
from settings.stack import Settings

__all__ = [
    "API_USER",
    "NAMESPACE",
    "AccessSettings",
    "AlertSettings",
    "AuthEndpoint",
    "AuthMode",
    "AuthSettings",
    "BackupS3Settings",
    "BackupSettings",
    "Certificates",
    "CliSettings",
    "DaskSettings",
    "EmailSettings",
    "EndpointSettings",
    "ExternalAuthSettings",
    "ExternalMinioSettings",
    "ExternalPostgresSettings",
    "ExternalProxySettings",
    "FlowSettings",
    "FurtherHostSettings",
    "HostSettings",
    "ImageSettings",
    "ImageSource",
    "MetricsMode",
    "MetricsSettings",
    "MinioSettings",
    "Model",
    "NetworksSettings",
    "Policy",
    "PostgresSettings",
    "ProxyMode",
    "ProxySettings",
    "RetentionSettings",
    "RotationSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "SmtpSettings",
    "Storage",
    "UserSettings",
    "WorkerSettings",
    "load",
    "parse",
    "requirement_lines",
]

SECRETS: Final = (
    "postgres.password",
    "postgres.external.password",
    "minio.root_password",
    "minio.external.secret_key",
    "secrets.*",
    "server.password",
    "auth.users.*.password_hash",
    "auth.smtp.password",
    "backup.password",
    "backup.s3.secret_key",
    "alerts.webhook",
    "alerts.email.smtp.password",
)
"""Settings that must be config secrets; `*` stands for every key."""
HOST_NAME_MAX: Final = 63
# The longest object name is <project>-<stack>-prefect-worker-<worker>-<replica>; it is a host name, too.
LONGEST_SUFFIX: Final = len("-prefect-worker--99")


def load() -> Settings:
    """Read and check the settings of the current stack.

    Raises:
        SettingsError: something in the stack's YAML cannot work; lists every problem found.
    """
    config = pulumi.Config(NAMESPACE)
    values = {key: config.get_object(key) for key in Settings.model_fields}
    values |= {key: config.get(key) for key in _given_keys() if key not in values}
    _refuse_plain_secrets(values)
    # Pulumi.yaml declares every key with an empty default, so an empty one is as good as none.
    given = {key: value for key, value in values.items() if value not in (None, {})}
    host = given.get("host", {})
    if "DOCKER_HOST" in os.environ and isinstance(host, Mapping) and not host.get("address"):
        given["host"] = {**host, "address": os.environ["DOCKER_HOST"]}
    return parse(given, pulumi.get_stack())


def _given_keys() -> list[str]:
    """The names of all keys in the stack's YAML; `pulumi.Config` tells only of those that one asks for."""
    given = {**get_config_env(), **CONFIG.get()}
    return sorted(key.partition(":")[2] for key in given if key.startswith(f"{NAMESPACE}:"))


def parse(values: Mapping[str, object], stack: str) -> Settings:
    """Settings from plain values, as `load` reads them from the YAML of the stack.

    Raises:
        SettingsError: as `load`.
    """
    file = f"Pulumi.{stack}.yaml"
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            _at(item["loc"], line)
            for item in error.errors(include_url=False, include_input=False)
            for line in _message(item["type"], item["msg"]).splitlines()
        ]
        raise SettingsError("\n".join([f"{file} can't be used:", *(f"  - {p}" for p in problems)])) from None
    longest = max((len(name) for name in [*settings.all_workers(), *settings.hosts]), default=0)
    if len(f"{NAMESPACE}-{stack}") + LONGEST_SUFFIX + longest > HOST_NAME_MAX:
        raise SettingsError(
            f"the stack's name {stack!r} with the longest name of a worker or host gives host names over "
            f"{HOST_NAME_MAX} characters, which Docker refuses. Use a shorter name for either"
        )
    return settings.resolved()


def _at(location: tuple[int | str, ...], line: str) -> str:
    """The line below its path; one that begins with the path of a part joins it."""
    path = ".".join(str(part) for part in location if part != "[key]")
    return path + ("." if re.match(r"[a-z_.]+: ", line) else ": ") + line if path else line


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting; it would be ignored. Remove it, or look for its name in docs/settings.md"
    return re.sub(r"^Value error, ", "", message)


def _refuse_plain_secrets(values: Mapping[str, object]) -> None:
    for pattern in SECRETS:
        section, *keys = pattern.split(".")
        if is_config_secret(f"{NAMESPACE}:{section}"):
            continue
        for path in _given(values.get(section), keys, section):
            raise SettingsError(
                f"{path}: it is in plain text, readable by everyone who can read the repository. "
                f"Set it with\n  pulumi config set --secret --path '{NAMESPACE}:{path}'"
            )


def _given(value: object, keys: Sequence[str], path: str) -> Iterator[str]:
    """The paths below `value` that `keys` lead to and that hold something."""
    if not keys:
        if value:
            yield path
    elif isinstance(value, Mapping):
        for key in value if keys[0] == "*" else keys[:1]:
            yield from _given(value.get(key), keys[1:], f"{path}.{key}")
