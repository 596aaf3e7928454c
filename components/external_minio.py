"""An S3 store that is there already: the bucket and its key are the user's own, and only flows' code is put there."""

from __future__ import annotations

import pulumi

from components.service import data_contract
from outputs import Outputs
from providers.connection import MinioConnection
from settings import ExternalMinioSettings, ImageSettings


class ExternalMinio(pulumi.ComponentResource):
    """An S3 store elsewhere; it takes the place of the stack's own, whose data a change would leave behind."""

    connection: MinioConnection
    """How the program reaches it, with the key of the settings."""
    outputs: Outputs

    def __init__(
        self,
        name: str,
        settings: ExternalMinioSettings,
        images: ImageSettings,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        # The type of the stack's own: the agreement about the data has one URN for both.
        super().__init__("prefect-environment:index:Minio", name, None, opts)
        data_contract(f"{name}-data", {"minio.mode": "external"}, pulumi.ResourceOptions(parent=self))
        self.connection = MinioConnection(
            server=settings.endpoint,
            url=settings.endpoint,
            access_key=settings.access_key,
            secret_key=pulumi.Output.secret(settings.secret_key.get_secret_value()),
            region=settings.region,
        )
        if images.ca_bundle:
            self.connection["ca_bundle"] = images.ca_bundle.as_posix()
        self.outputs = {"minio_url": settings.endpoint}
        self.register_outputs({})
