"""Import paths and type tokens that every stack's state holds: a change here breaks them all."""

from __future__ import annotations

import base64
import pickletools
from importlib import import_module

import pytest
from pulumi.dynamic.dynamic import serialize_provider

# Type token, and the resource class; its provider class has the same name with Provider behind it.
FROZEN = {
    "dynamic:DataContract": "providers.data_contract.DataContract",
    "dynamic:HostContract": "providers.host_contract.HostContract",
    "dynamic:VersionContract": "providers.version_contract.VersionContract",
    "dynamic:GeneratedSecret": "providers.generated_secret.GeneratedSecret",
    "dynamic/caddy:SiteFile": "providers.caddy.site_file.SiteFile",
    "dynamic/minio:Bucket": "providers.minio.bucket.Bucket",
    "dynamic/minio:Expiry": "providers.minio.expiry.Expiry",
    "dynamic/minio:User": "providers.minio.user.User",
    "dynamic/minio:Policy": "providers.minio.policy.Policy",
    "dynamic/minio:PolicyAttachment": "providers.minio.policy_attachment.PolicyAttachment",
    "dynamic/minio:AccessKey": "providers.minio.access_key.AccessKey",
    "dynamic/minio:ObjectTree": "providers.minio.object_tree.ObjectTree",
    "dynamic/postgres:Role": "providers.postgres.role.Role",
    "dynamic/prefect:Automation": "providers.prefect.automation.Automation",
    "dynamic/prefect:Block": "providers.prefect.block.Block",
    "dynamic/prefect:WorkPool": "providers.prefect.work_pool.WorkPool",
    "dynamic/prefect:WorkQueue": "providers.prefect.work_queue.WorkQueue",
    "dynamic/prefect:Deployment": "providers.prefect.deployment.Deployment",
}


@pytest.mark.parametrize(("token", "path"), FROZEN.items())
def test_paths_and_tokens_stay(token: str, path: str) -> None:
    module, name = path.rsplit(".", 1)
    resource = getattr(import_module(module), name)
    assert resource._resource_type_name == token
    provider = getattr(import_module(module), f"{name}Provider")()
    assert provider.serialize_as_secret_always is False
    pickled = base64.b64decode(serialize_provider(provider))
    # By reference: the class is named, nothing of it is in there, and the instance has no state.
    strings = [argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)]
    assert strings == [module, f"{name}Provider"]
