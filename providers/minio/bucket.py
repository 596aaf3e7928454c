"""A bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource, matching
from providers.connection import MinioConnection
from providers.minio.server import MinioClient, MinioProvider, code

OWNER_TAG: Final = "prefect-environment.owner"
"""The bucket tag that holds the stack's mark."""

bucket_name = matching(
    r"(?!xn--)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "must be 3 to 63 lower-case letters, digits, dashes or dots, with a letter or digit at both ends",
)


@dataclass(frozen=True)
class BucketArgs(Args[MinioConnection]):
    """What a bucket is."""

    bucket: str
    """Its name; another name is another bucket."""
    force_destroy: bool = False
    """Let a removal delete the objects, too; else only an empty bucket goes."""


class BucketProvider(MinioProvider[BucketArgs]):
    """Buckets are marked by a tag."""

    args_type = BucketArgs
    kind = "bucket"
    identity = ("bucket",)
    state_only = MinioProvider.state_only | {"force_destroy"}
    rules: ClassVar = {"bucket": bucket_name}

    def find(self, client: MinioClient, args: BucketArgs) -> Found | None:
        """An empty bucket without tags is as good as new: a create that died before its tag leaves one."""
        if not client.s3.bucket_exists(bucket_name=args.bucket):
            return None
        tags = client.s3.get_bucket_tags(bucket_name=args.bucket)
        if tags:
            return Found({}, tags.get(OWNER_TAG, ""))
        empty = next(iter(client.s3.list_objects(bucket_name=args.bucket)), None) is None
        return Found({}, args.owner if empty else "")

    def make(self, client: MinioClient, args: BucketArgs) -> Props:
        client.s3.make_bucket(bucket_name=args.bucket)
        return self._mark(client, args)

    def change(self, client: MinioClient, args: BucketArgs, _found: Found) -> Props:
        return self._mark(client, args)

    def remove(self, client: MinioClient, args: BucketArgs, _found: Found) -> None:
        from minio.error import S3Error

        if args.force_destroy:
            _empty(client, args.bucket)
        try:
            client.s3.remove_bucket(bucket_name=args.bucket)
        except S3Error as error:
            if code(error) != "BucketNotEmpty":
                raise
            raise ProviderError(
                "it is not empty, so nothing was deleted. Empty it, or run `pulumi up` with "
                "force_destroy=True before it is removed."
            ) from None

    def _mark(self, client: MinioClient, args: BucketArgs) -> Props:
        from minio.commonconfig import Tags

        tags = client.s3.get_bucket_tags(bucket_name=args.bucket) or Tags.new_bucket_tags()
        tags[OWNER_TAG] = args.owner
        client.s3.set_bucket_tags(bucket_name=args.bucket, tags=tags)
        return {}


def _empty(client: MinioClient, bucket: str) -> None:
    from minio.deleteobjects import DeleteObject

    objects = client.s3.list_objects(bucket_name=bucket, recursive=True, include_version=True)
    doomed = [DeleteObject(name=each.object_name, version_id=each.version_id) for each in objects]
    for error in client.s3.remove_objects(bucket_name=bucket, delete_object_list=doomed):
        raise ProviderError(f"object {error.name!r} could not be deleted: {error.code} {error.message}")


class Bucket(Resource, module="minio", name="Bucket"):
    """A bucket; create is refused where a foreign one with objects or tags exists, unless `adopt`."""

    bucket: pulumi.Output[str]

    def __init__(self, name: str, args: BucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BucketProvider(), name, args, opts)
