"""An access key (MinIO calls it a service account): a pair of keys that may do what its user may."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource, matching
from providers.connection import MinioConnection, plain
from providers.minio.server import REFUSED, MinioClient, MinioProvider, code, unless
from providers.minio.user import secret_key, user_name

access_key = matching(r"[A-Za-z0-9]{3,20}", "must be 3 to 20 letters or digits")

NO_SUCH_KEY: Final = {"XMinioInvalidIAMCredentials", "XMinioAdminServiceAccountNotFound"}


@dataclass(frozen=True)
class AccessKeyArgs(Args[MinioConnection]):
    """What an access key is."""

    user: str
    """The user it belongs to; another user's is another key."""
    user_secret_key: pulumi.Input[str]
    """The user's password, to sign in as the user when the key is made."""
    access_key: str
    """Its name, 3 to 20 letters or digits."""
    secret_key: pulumi.Input[str]
    """Its secret, 8 to 40 characters; changed in place."""
    description: str = ""


class AccessKeyProvider(MinioProvider[AccessKeyArgs]):
    """Made signed in as the user: a key that an administrator makes would have the administrator's rights."""

    args_type = AccessKeyArgs
    kind = "access key"
    identity = ("access_key", "user")
    secrets = ("user_secret_key", "secret_key")
    state_only = MinioProvider.state_only | {"user_secret_key"}
    rules: ClassVar = {"user": user_name, "access_key": access_key, "secret_key": secret_key}

    def id(self, args: AccessKeyArgs) -> str:
        return args.access_key

    def find(self, client: MinioClient, args: AccessKeyArgs) -> Found | None:
        info = unless(NO_SUCH_KEY, lambda: client.admin.get_service_account(args.access_key))
        if info is None:
            return None
        real, secret = json.loads(info), plain(args.secret_key)
        values: Props = {
            "user": real["parentUser"],
            "secret_key": secret if client.lets_in(args.access_key, secret) else None,
        }
        # An empty description can't be written, so it is not compared either.
        return Found(values | ({"description": real.get("description")} if args.description else {}))

    def make(self, client: MinioClient, args: AccessKeyArgs) -> Props:
        from minio.error import MinioAdminException

        try:
            client.signed_in(args.user, plain(args.user_secret_key)).admin.add_service_account(
                access_key=args.access_key, secret_key=plain(args.secret_key), description=args.description
            )
        except MinioAdminException as error:
            if code(error) not in REFUSED:
                raise
            raise ProviderError(
                f"user {args.user!r} was refused ({code(error)}). Pass the user's own secret key as "
                "user_secret_key, and let this depend on the user's PolicyAttachment: MinIO lets only a user "
                "with a policy make keys."
            ) from None
        made = self.find(client, args)
        if made is None or made.values["user"] != args.user:
            client.admin.delete_service_account(args.access_key)
            raise ProviderError(f"the server made it, but not for {args.user!r}; it was deleted again.")
        return {}

    def change(self, client: MinioClient, args: AccessKeyArgs, found: Found) -> Props:
        if found.values["user"] != args.user:
            raise ProviderError(
                f"it belongs to user {found.values['user']!r}, not {args.user!r}, and can't be moved; "
                "nothing was changed. Choose another access key."
            )
        client.admin.update_service_account(
            access_key=args.access_key,
            secret_key=plain(args.secret_key),
            description=args.description,
            status="on",
        )
        return {}

    def remove(self, client: MinioClient, args: AccessKeyArgs, _found: Found) -> None:
        client.admin.delete_service_account(args.access_key)


class AccessKey(Resource, module="minio", name="AccessKey"):
    """An access key; it depends on its user and on what is attached to it."""

    access_key: pulumi.Output[str]
    secret_key: pulumi.Output[str]

    def __init__(self, name: str, args: AccessKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(AccessKeyProvider(), name, args, opts, secret=("secret_key", "user_secret_key"))
