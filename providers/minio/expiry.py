"""A rule by which a bucket deletes what is old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pulumi

from providers.base import Args, Found, Props, Resource, matching
from providers.connection import MinioConnection
from providers.minio.bucket import bucket_name
from providers.minio.server import MinioClient, MinioProvider, unless

if TYPE_CHECKING:
    from minio.lifecycleconfig import Rule


@dataclass(frozen=True)
class ExpiryArgs(Args[MinioConnection]):
    """What is deleted when (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lifecycle-mgmt.html)."""

    bucket: str
    rule: str
    """Its id; the bucket's other rules stay as they are."""
    prefix: str
    """What the names of the objects begin with, e.g. `logs/`."""
    days: int | None
    """Since an object was written, rounded up to midnight UTC; None: they stay, and there is no such rule."""


class ExpiryProvider(MinioProvider[ExpiryArgs]):
    """Rules have no place for a mark but their id."""

    args_type = ExpiryArgs
    kind = "expiry rule"
    identity = ("bucket", "rule")
    rules: ClassVar = {
        "bucket": bucket_name,
        "rule": matching(r"\S(.{0,253}\S)?", "must be a line of up to 255 characters without blanks around it"),
        "prefix": matching(r"[^/].*/", "must be a path that ends with a slash, or the rule would hold for everything"),
        "days": lambda days: None if days >= 1 else "must be 1 or more",
    }

    def find(self, client: MinioClient, args: ExpiryArgs) -> Found | None:
        from minio.commonconfig import ENABLED

        for rule in _rules(client, args):
            if rule.rule_id == args.rule:
                days = rule.expiration.days if rule.expiration and rule.status == ENABLED else None
                return Found({"prefix": rule.rule_filter.prefix if rule.rule_filter else None, "days": days})
        return Found({"prefix": args.prefix, "days": None}) if args.days is None else None

    def make(self, client: MinioClient, args: ExpiryArgs) -> Props:
        from minio.commonconfig import ENABLED, Filter
        from minio.lifecycleconfig import Expiration, Rule

        rules = _others(client, args)
        if args.days is not None:
            expiration = Expiration(days=args.days)
            rules.append(Rule(ENABLED, Filter(prefix=args.prefix), rule_id=args.rule, expiration=expiration))
        _set(client, args, rules)
        return {}

    def change(self, client: MinioClient, args: ExpiryArgs, _found: Found) -> Props:
        return self.make(client, args)

    def remove(self, client: MinioClient, args: ExpiryArgs, _found: Found) -> None:
        _set(client, args, _others(client, args))


def _rules(client: MinioClient, args: ExpiryArgs) -> Sequence[Rule]:
    config = unless({"NoSuchBucket"}, lambda: client.s3.get_bucket_lifecycle(bucket_name=args.bucket))
    return config.rules if config else ()


def _others(client: MinioClient, args: ExpiryArgs) -> list[Rule]:
    return [rule for rule in _rules(client, args) if rule.rule_id != args.rule]


def _set(client: MinioClient, args: ExpiryArgs, rules: list[Rule]) -> None:
    from minio.lifecycleconfig import LifecycleConfig

    if rules:
        client.s3.set_bucket_lifecycle(bucket_name=args.bucket, config=LifecycleConfig(rules))
    else:
        client.s3.delete_bucket_lifecycle(bucket_name=args.bucket)


class Expiry(Resource, module="minio", name="Expiry"):
    """A rule of a bucket; create is refused where another one of its id exists, unless `adopt`."""

    rule: pulumi.Output[str]

    def __init__(self, name: str, args: ExpiryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ExpiryProvider(), name, args, opts)
