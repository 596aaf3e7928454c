"""A database that is there already: nothing in it is managed but what the Prefect server itself keeps there."""

from __future__ import annotations

import pulumi

from components.postgres import Database
from components.service import data_contract
from settings import ExternalPostgresSettings


class ExternalPostgres(pulumi.ComponentResource):
    """A Postgres elsewhere; it takes the place of the stack's own, whose data a change would leave behind."""

    database: Database
    authelia: Database | None = None
    observer: Database | None = None
    archiver: Database | None = None

    def __init__(
        self, name: str, settings: ExternalPostgresSettings, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        # The type of the stack's own: the agreement about the data has one URN for both.
        super().__init__("prefect-environment:index:Postgres", name, None, opts)
        data_contract(f"{name}-data", {"postgres.mode": "external"}, pulumi.ResourceOptions(parent=self))
        self.database = Database(
            settings.host,
            settings.port,
            settings.database,
            settings.user,
            pulumi.Output.secret(settings.password.get_secret_value()),
            tls=settings.tls,
            networks=[],
        )
        self.register_outputs({})
