"""Authelia: asks people who they are, and tells Caddy who may see what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.authelia_config import DATA, PORT, RENAMED_KEYS, Configured, configuration, users
from components.images import Images
from components.naming import qualified
from components.networks import Network
from components.postgres import Database
from components.service import SecretFile, ServiceArgs, container, data_volume, http_health, kept_secret
from providers.generated_secret import GeneratedSecret, GeneratedSecretArgs
from settings import AccessSettings, AuthSettings, ProxySettings

CONFIGURATION: Final = "/config/configuration.yml"
AUTHORITIES: Final = "/config/certificates"


@dataclass(frozen=True)
class AutheliaArgs:
    """What an Authelia needs."""

    settings: AuthSettings
    access: Mapping[str, AccessSettings]
    """Host, by its label below the domain, to who may see it."""
    generation: int
    """Of its secrets."""
    proxy: ProxySettings
    images: Images
    networks: Sequence[Network]
    """Where Caddy is."""
    database: Database | None
    """Its own in a Postgres; None: a file in its volume."""


class Authelia(pulumi.ComponentResource):
    """An Authelia with its users, and a volume with their second factors.

    Sessions are in its memory: a new container, which each change of users or configuration brings, ends them all.
    """

    container: docker.Container

    def __init__(self, name: str, args: AutheliaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Authelia", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, database, version = args.settings, args.database, args.images.settings.authelia_version
        users_file = SecretFile("authelia-users.yml", users(settings))

        def generated(what: str) -> pulumi.Output[str]:
            return GeneratedSecret(f"{name}-{what}", GeneratedSecretArgs(version=args.generation), child).value

        # https://www.authelia.com/configuration/methods/secrets
        secrets: dict[str, pulumi.Input[str]] = {
            "SESSION_SECRET": generated("session-secret"),
            # Kept as the data that it opens.
            "STORAGE_ENCRYPTION_KEY": kept_secret(f"{name}-encryption-key", None, child),
        }
        if version < RENAMED_KEYS:
            secrets["JWT_SECRET"] = generated("jwt-secret")
        if database:
            secrets["STORAGE_POSTGRES_PASSWORD"] = database.password
        if settings.smtp and settings.smtp.password:
            secrets["NOTIFIER_SMTP_PASSWORD"] = settings.smtp.password.get_secret_value()
        secret_files = {key: SecretFile(f"authelia-{key.lower()}", secret) for key, secret in secrets.items()}

        ca_bundle = args.images.settings.ca_bundle
        authorities = {f"{AUTHORITIES}/ca-bundle.crt": ca_bundle.read_text()} if ca_bundle else {}
        configured = Configured(
            version=version,
            settings=settings,
            proxy=args.proxy,
            session=qualified("session"),
            users=users_file.path,
            database=database,
            authorities=AUTHORITIES if authorities else None,
            access=args.access,
        )
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.authelia().image_id,
                networks=[*args.networks, *(database.networks if database else [])],
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="auth.memory_mb",
                # By name: else the official image's entrypoint changes the user, for which it has no right here.
                command=["authelia", "--config", CONFIGURATION],
                env={f"AUTHELIA_{key}_FILE": file.path for key, file in secret_files.items()},
                volumes={
                    DATA: data_volume(f"{name}-data", {"path": DATA, "auth.storage": settings.storage.value}, child)
                },
                files={CONFIGURATION: configuration(configured), **authorities},
                secret_files=[users_file, *secret_files.values()],
                health=http_health(PORT, "/api/health"),
            ),
            child,
        )
        self.register_outputs({})
