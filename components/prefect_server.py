"""The Prefect server: API, UI and background services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pulumi
import pulumi_docker as docker

from components.docker_host import DockerHost
from components.images import Images
from components.naming import qualified
from components.networks import Network
from components.postgres import Database
from components.prefect_credential import PrefectCredential
from components.service import Port, ServiceArgs, container, http_health, served_by
from outputs import Outputs
from providers.connection import PrefectConnection
from providers.prefect.block import Block, BlockArgs
from providers.version_contract import VersionContract, VersionContractArgs
from settings import ServerSettings, Settings
from settings.versions import SERVER_LOCK, locked

PORT: Final = 4200


@dataclass(frozen=True)
class PrefectServerArgs:
    """What a Prefect server needs."""

    settings: Settings
    images: Images
    networks: Sequence[Network]
    database: Database
    credential: PrefectCredential
    result_env: Mapping[str, str]
    host: DockerHost


class PrefectServer(pulumi.ComponentResource):
    """A Prefect server on a Postgres database, the stack's own or another, with the secrets of the settings in it."""

    container: docker.Container
    connection: PrefectConnection
    """How the program reaches it."""
    inside: pulumi.ResourceOptions
    """Of a resource that lives in it: made after what it needs to answer, and gone with it."""
    outputs: Outputs

    def __init__(self, name: str, args: PrefectServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:PrefectServer", name, None, opts)
        settings, database, auth = args.settings.server, args.database, args.credential.auth
        url = f"{settings.url}/api"
        VersionContract(
            f"{name}-version",
            VersionContractArgs(
                {"Prefect": locked(SERVER_LOCK)["prefect"]}, f"the database {database.database} of {qualified(name)}"
            ),
            pulumi.ResourceOptions(parent=self, protect=args.settings.has_postgres),
        )
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.prefect.image_id,
                networks=[*args.networks, *database.networks],
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="server.memory_mb",
                command=[
                    "wait-for",
                    f"{database.host}:{database.port}",
                    *("prefect-server", "0.0.0.0", str(PORT)),  # noqa: S104  (in its container)
                ],
                env={
                    **args.result_env,
                    # https://docs.prefect.io/v3/api-ref/settings-ref (ServerSettings)
                    "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
                    "PREFECT_SERVER_DATABASE_HOST": database.host,
                    "PREFECT_SERVER_DATABASE_PORT": str(database.port),
                    "PREFECT_SERVER_DATABASE_USER": database.user,
                    "PREFECT_SERVER_DATABASE_NAME": database.database,
                    "PREFECT_SERVER_DATABASE_PASSWORD": database.password,
                    **({"PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED": "true"} if database.tls else {}),
                    "PREFECT_SERVER_API_AUTH_STRING": auth,
                    # Accepted, too: `images/prefect/prefect-server`.
                    "FORMER_API_AUTH_STRING": args.credential.former,
                    # Relative: the UI works under every name, and through every forward, that leads to it.
                    "PREFECT_UI_API_URL": settings.ui_api_url or "/api",
                    # For the links in alerts.
                    "PREFECT_UI_URL": args.settings.ui_url,
                    # What it answers to pages of others; its own UI is on the same host.
                    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": args.settings.ui_url,
                    # Else a run that died while the server was off for minutes is forgotten, and is Running for ever.
                    "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P1D",
                    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                    **({"PREFECT_SERVER_METRICS_ENABLED": "true"} if args.settings.metrics.on else {}),
                    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                    **_retention(settings),
                },
                ports=[Port(settings.port, PORT)],
                health=http_health(PORT, "/api/health"),
                # The first start makes the schema.
                health_start="3m0s",
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.inside = pulumi.ResourceOptions.merge(
            served_by(self.container), pulumi.ResourceOptions(depends_on=database.role)
        )
        self.connection = PrefectConnection(server=qualified(name), url=url, auth=auth)
        if args.host.via:
            self.connection["via"] = args.host.via
        self.outputs = {"prefect_url": settings.url, "prefect_api_url": url, "prefect_api_auth_string": auth}
        self._first_block: list[Block] = []
        for block, secret in args.settings.secrets.items():
            # https://docs.prefect.io/v3/concepts/blocks: what `Secret.load(block)` finds.
            self.block(block, "secret", {"value": secret.get_secret_value()}, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})

    def block(
        self,
        name: str,
        block_type: str,
        data: Mapping[str, pulumi.Input[object]],
        opts: pulumi.ResourceOptions,
    ) -> Block:
        """Declare a block in it, secret as a whole.

        A block can't bear a mark; those by this name in the stack's own server are the stack's.
        """
        first = pulumi.ResourceOptions.merge(
            # One first: the server makes its encryption key with the first block, and two at once collide.
            self.inside,
            pulumi.ResourceOptions(depends_on=self._first_block),
        )
        block = Block(
            name,
            BlockArgs(self.connection, block_type=block_type, block=name, adopt=True, data=pulumi.Output.secret(data)),
            pulumi.ResourceOptions.merge(first, opts),
        )
        self._first_block = self._first_block or [block]
        return block


def _retention(settings: ServerSettings) -> dict[str, str]:
    vacuum = {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{settings.event_retention_days}D",
    }
    if settings.flow_run_retention_days:
        vacuum["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] = "events,flow_runs"
        seconds = timedelta(days=settings.flow_run_retention_days).total_seconds()
        vacuum["PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"] = f"{seconds:.0f}"
    return vacuum
