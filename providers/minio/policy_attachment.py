"""A policy attached to a user."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pulumi

from providers.base import Args, Found, Props, Resource
from providers.connection import MinioConnection
from providers.minio.policy import policy_name
from providers.minio.server import MinioClient, MinioProvider, unless
from providers.minio.user import user_name


@dataclass(frozen=True)
class PolicyAttachmentArgs(Args[MinioConnection]):
    """What is attached to whom; neither can be changed in place."""

    policy: str
    user: str


class PolicyAttachmentProvider(MinioProvider[PolicyAttachmentArgs]):
    """An attachment is all identity: one that exists is what was asked for."""

    args_type = PolicyAttachmentArgs
    kind = "policy attachment"
    identity = ("policy", "user")
    rules: ClassVar = {"policy": policy_name, "user": user_name}

    def find(self, client: MinioClient, args: PolicyAttachmentArgs) -> Found | None:
        info = unless({"XMinioAdminNoSuchUser"}, lambda: client.admin.user_info(args.user))
        attached = json.loads(info or "{}").get("policyName", "").split(",")
        return Found({}) if args.policy in attached else None

    def make(self, client: MinioClient, args: PolicyAttachmentArgs) -> Props:
        client.admin.attach_policy([args.policy], user=args.user)
        return {}

    def change(self, _client: MinioClient, _args: PolicyAttachmentArgs, _found: Found) -> Props:
        return {}

    def remove(self, client: MinioClient, args: PolicyAttachmentArgs, _found: Found) -> None:
        client.admin.detach_policy([args.policy], user=args.user)


class PolicyAttachment(Resource, module="minio", name="PolicyAttachment"):
    """A policy attached to a user; it depends on both."""

    def __init__(self, name: str, args: PolicyAttachmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PolicyAttachmentProvider(), name, args, opts)
