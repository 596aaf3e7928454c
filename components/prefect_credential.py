"""The credential of Prefect's API: the server asks everybody for it, its own workers included."""

from __future__ import annotations

import base64

import pulumi

from components.service import rotated_secret
from settings import API_USER, ServerSettings


class PrefectCredential(pulumi.ComponentResource):
    """The one user that Prefect's basic auth knows (https://docs.prefect.io/v3/advanced/security-settings)."""

    auth: pulumi.Output[str]
    """`user:password`, as `PREFECT_API_AUTH_STRING` takes it."""
    former: pulumi.Output[str]
    """What it was before its last change, for those who hold a copy of it; as `auth` until then."""
    authorization: pulumi.Output[str]
    """The value of the header Authorization."""

    def __init__(
        self, name: str, settings: ServerSettings, generation: int, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("prefect-environment:index:PrefectCredential", name, None, opts)
        # Kept as what it opens: laptops and programs elsewhere hold a copy.
        child = pulumi.ResourceOptions(parent=self)
        secret = rotated_secret("prefect-api-password", settings.password, child, generation)
        self.auth = pulumi.Output.secret(pulumi.Output.concat(API_USER, ":", secret.value))
        self.former = pulumi.Output.secret(pulumi.Output.concat(API_USER, ":", secret.former))
        self.authorization = self.auth.apply(lambda auth: f"Basic {base64.b64encode(auth.encode()).decode()}")
        self.register_outputs({})
