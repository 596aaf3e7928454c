"""Where flows' code and results live: a bucket, the key that opens it, and the blocks that Prefect uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components.external_minio import ExternalMinio
from components.minio import Minio
from components.naming import LABEL
from components.prefect_server import PrefectServer
from components.service import kept_secret, rotated_secret, served_by
from outputs import Outputs
from providers.connection import MinioConnection
from providers.minio.access_key import AccessKey, AccessKeyArgs
from providers.minio.bucket import Bucket, BucketArgs
from providers.minio.expiry import Expiry, ExpiryArgs
from providers.minio.policy import Policy, PolicyArgs
from providers.minio.policy_attachment import PolicyAttachment, PolicyAttachmentArgs
from providers.minio.user import User, UserArgs
from providers.prefect.block import Block
from settings import Settings

BLOCK_TYPE: Final = "remote-file-system"
BLOCK: Final = "dask-block"
"""On the whole bucket."""
RESULT_BLOCK: Final = "flow-results"
RESULTS: Final = "_results"
"""Where in the bucket the results are: no flow project's name can begin like that, so no rule for it meets code."""


@dataclass(frozen=True)
class FlowStorageArgs:
    """What the storage of flows needs."""

    settings: Settings
    store: Minio | ExternalMinio
    endpoint: str
    """URL of the S3 API as what runs flows reaches it."""


@dataclass(frozen=True)
class Key:
    """An access key of the bucket."""

    id: pulumi.Input[str]
    secret: pulumi.Input[str]


class FlowStorage(pulumi.ComponentResource):
    """A bucket and the blocks that lead there; in the stack's own MinIO with a user who may touch only it.

    In another store, bucket and key are as the settings say, and nothing but objects is made.
    """

    connection: MinioConnection
    """How the program reaches it."""
    key: Key
    """What flows reach it with."""
    inside: pulumi.ResourceOptions
    """Options of what is put into the bucket."""
    bucket: str
    endpoint: str
    """URL of the S3 API as containers reach it."""
    outputs: Outputs

    def __init__(self, name: str, args: FlowStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:FlowStorage", name, None, opts)
        self._args = args
        self.bucket, self.endpoint = args.settings.minio.bucket, args.endpoint
        self._bucket: list[Bucket] = []
        self.connection = args.store.connection
        if isinstance(args.store, Minio):
            self.key = self._own_key(args.store)
        else:
            self.key = Key(self.connection["access_key"], self.connection["secret_key"])
            self.inside = pulumi.ResourceOptions()
        self.outputs = {"bucket_access_key": self.key.id, "bucket_secret_key": pulumi.Output.secret(self.key.secret)}
        self.register_outputs({"bucket": self.bucket})

    def _own_key(self, minio: Minio) -> Key:
        settings, generation = self._args.settings.minio, self._args.settings.rotation.minio_key
        in_minio = pulumi.ResourceOptions.merge(served_by(minio.container), pulumi.ResourceOptions(parent=self))
        bucket, user_name, adopt = settings.bucket, settings.user, settings.adopt
        # Kept through a `down`, as MinIO's volume is that knows the user.
        child = pulumi.ResourceOptions(parent=self)
        user_secret = kept_secret(f"{user_name}-secret", None, child, generation)
        key_secret = rotated_secret(f"{user_name}-key-secret", None, child, generation)
        self._bucket = [Bucket(bucket, BucketArgs(minio.connection, bucket=bucket, adopt=adopt), in_minio)]
        self.inside = pulumi.ResourceOptions.merge(
            served_by(minio.container), pulumi.ResourceOptions(depends_on=self._bucket)
        )
        Expiry(
            f"{bucket}-results",
            ExpiryArgs(
                minio.connection,
                bucket=bucket,
                rule=f"{LABEL}.results",
                prefix=f"{RESULTS}/",
                days=self._args.settings.retention.results_days,
                # One of this id that is there already was left by the stack when it was taken down.
                adopt=True,
            ),
            pulumi.ResourceOptions.merge(in_minio, pulumi.ResourceOptions(depends_on=self._bucket)),
        )
        user = User(
            user_name,
            UserArgs(minio.connection, user=user_name, secret_key=user_secret, adopt=adopt),
            in_minio,
        )
        policy = Policy(
            f"{bucket}-only",
            PolicyArgs(minio.connection, policy=f"{bucket}-only", document=bucket_policy(bucket), adopt=adopt),
            in_minio,
        )
        attachment = PolicyAttachment(
            f"{bucket}-only-{user_name}",
            PolicyAttachmentArgs(minio.connection, policy=f"{bucket}-only", user=user_name),
            pulumi.ResourceOptions.merge(in_minio, pulumi.ResourceOptions(depends_on=[user, policy])),
        )

        def key(generation: int, secret: pulumi.Output[str]) -> AccessKey:
            # Two ids take turns: what began with the former key goes on with it.
            even = generation % 2 == 0
            return AccessKey(
                f"{user_name}-key-2" if even else f"{user_name}-key",
                AccessKeyArgs(
                    minio.connection,
                    user=user_name,
                    user_secret_key=user_secret,
                    access_key=access_key_id(user_name, even=even),
                    secret_key=secret,
                ),
                pulumi.ResourceOptions.merge(in_minio, pulumi.ResourceOptions(depends_on=[attachment])),
            )

        current = key(generation, key_secret.value)
        if generation > 1:
            key(generation - 1, key_secret.former)
        return Key(current.access_key, current.secret_key)

    def blocks(self, server: PrefectServer) -> None:
        """Declare the block on the bucket, and the one on the part of it where results go."""
        child = pulumi.ResourceOptions(parent=self)
        self.block(BLOCK, server, self.bucket, child)
        self.block(RESULT_BLOCK, server, f"{self.bucket}/{RESULTS}", child)

    def block(self, name: str, server: PrefectServer, path: pulumi.Input[str], opts: pulumi.ResourceOptions) -> Block:
        """Declare a RemoteFileSystem block on `s3://<path>`, as the access key of the bucket's user."""
        region = self.connection.get("region")
        settings = {
            "key": self.key.id,
            "secret": self.key.secret,
            "client_kwargs": {"endpoint_url": self._args.endpoint, **({"region_name": region} if region else {})},
        }
        return server.block(
            name,
            BLOCK_TYPE,
            {"basepath": pulumi.Output.concat("s3://", path), "settings": settings},
            pulumi.ResourceOptions.merge(pulumi.ResourceOptions(depends_on=self._bucket), opts),
        )


def access_key_id(user: str, *, even: bool = False) -> str:
    """The id of a user's access key in odd or even generations; MinIO takes letters and digits, 20 at most."""
    return f"{user.replace('-', '')[:16]}key2" if even else f"{user.replace('-', '')[:17]}key"


def bucket_policy(bucket: str) -> dict[str, object]:
    """An S3 policy that allows what flows do in one bucket, and nothing else."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:AbortMultipartUpload",
                    "s3:DeleteObject",
                    "s3:GetObject",
                    "s3:ListMultipartUploadParts",
                    "s3:PutObject",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
        ],
    }
