"""Where flows' code and results live: a bucket, the user who may touch only it, and the block that Prefect uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components.minio import API_PORT, Minio
from components.prefect_server import PrefectServer
from components.service import kept_secret, served_by
from providers.minio.access_key import AccessKey, AccessKeyArgs
from providers.minio.bucket import Bucket, BucketArgs
from providers.minio.policy import Policy, PolicyArgs
from providers.minio.policy_attachment import PolicyAttachment, PolicyAttachmentArgs
from providers.minio.user import User, UserArgs
from providers.prefect.block import Block, BlockArgs
from settings import MinioSettings

BLOCK_TYPE: Final = "remote-file-system"


@dataclass(frozen=True)
class FlowStorageArgs:
    """What the storage of flows needs."""

    settings: MinioSettings
    minio: Minio
    minio_host: str
    """MinIO's name on the networks of workers and Dask."""


class FlowStorage(pulumi.ComponentResource):
    """A bucket, its user, policy and access key in MinIO."""

    bucket: Bucket

    def __init__(self, name: str, args: FlowStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:FlowStorage", name, None, opts)
        minio = args.minio
        self._args = args
        self._first_block: list[Block] = []
        in_minio = pulumi.ResourceOptions.merge(served_by(minio.container), pulumi.ResourceOptions(parent=self))
        bucket, user_name, adopt = args.settings.bucket, args.settings.user, args.settings.adopt
        # Kept through a `down`, as MinIO's volume is that knows the user.
        child = pulumi.ResourceOptions(parent=self)
        user_secret = kept_secret(f"{user_name}-secret", None, child)
        key_secret = kept_secret(f"{user_name}-key-secret", None, child)
        self.bucket = Bucket(bucket, BucketArgs(minio.connection, bucket=bucket, adopt=adopt), in_minio)
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
        self._key = AccessKey(
            f"{user_name}-key",
            AccessKeyArgs(
                minio.connection,
                user=user_name,
                user_secret_key=user_secret,
                access_key=access_key_id(user_name),
                secret_key=key_secret,
            ),
            pulumi.ResourceOptions.merge(in_minio, pulumi.ResourceOptions(depends_on=[attachment])),
        )
        self.register_outputs({"bucket": bucket})

    def block(self, name: str, server: PrefectServer, path: pulumi.Input[str], opts: pulumi.ResourceOptions) -> Block:
        """Declare a RemoteFileSystem block on `s3://<path>`, as the access key of the bucket's user."""
        settings = {
            "key": self._key.access_key,
            "secret": self._key.secret_key,
            "client_kwargs": {"endpoint_url": f"http://{self._args.minio_host}:{API_PORT}"},
        }
        block = Block(
            name,
            BlockArgs(
                server.connection,
                block_type=BLOCK_TYPE,
                block=name,
                # A block can't bear a mark; those by this name in the stack's own server are the stack's.
                adopt=True,
                data=pulumi.Output.secret({"basepath": pulumi.Output.concat("s3://", path), "settings": settings}),
            ),
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions.merge(
                    served_by(server.container),
                    # One first: the server makes its encryption key with the first block, and two at once collide.
                    pulumi.ResourceOptions(depends_on=[self.bucket, *self._first_block]),
                ),
                opts,
            ),
        )
        self._first_block = self._first_block or [block]
        return block


def access_key_id(user: str) -> str:
    """The id of a user's access key; MinIO takes letters and digits, 20 at most."""
    return f"{user.replace('-', '')[:17]}key"


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
