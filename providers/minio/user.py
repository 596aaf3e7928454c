"""A user of MinIO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pulumi

from providers.base import Args, Found, Props, Resource, matching
from providers.connection import MinioConnection, plain
from providers.minio.server import MinioClient, MinioProvider, unless

user_name = matching(
    r"[A-Za-z0-9][A-Za-z0-9._@-]{2,127}", "must be 3 to 128 letters, digits, dots, dashes, underscores or @"
)
secret_key = matching(r"(?s).{8,40}", "must have 8 to 40 characters")


@dataclass(frozen=True)
class UserArgs(Args[MinioConnection]):
    """What a user is."""

    user: str
    """The name, which is the access key; another name is another user."""
    secret_key: pulumi.Input[str]
    """The password, 8 to 40 characters; changed in place."""


class UserProvider(MinioProvider[UserArgs]):
    """Users bear no mark: one that the given secret lets in is what was asked for."""

    args_type = UserArgs
    kind = "user"
    identity = ("user",)
    secrets = ("secret_key",)
    rules: ClassVar = {"user": user_name, "secret_key": secret_key}

    def find(self, client: MinioClient, args: UserArgs) -> Found | None:
        if unless({"XMinioAdminNoSuchUser"}, lambda: client.admin.user_info(args.user)) is None:
            return None
        secret = plain(args.secret_key)
        return Found({"secret_key": secret if client.lets_in(args.user, secret) else None})

    def make(self, client: MinioClient, args: UserArgs) -> Props:
        client.admin.user_add(args.user, plain(args.secret_key))
        return {}

    def change(self, client: MinioClient, args: UserArgs, _found: Found) -> Props:
        return self.make(client, args)

    def remove(self, client: MinioClient, args: UserArgs, _found: Found) -> None:
        client.admin.user_remove(args.user)


class User(Resource, module="minio", name="User"):
    """A user, who may do nothing until a policy is attached."""

    user: pulumi.Output[str]
    secret_key: pulumi.Output[str]

    def __init__(self, name: str, args: UserArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(UserProvider(), name, args, opts, secret=("secret_key",))
