"""A policy: what those whom it is attached to may do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pulumi

from providers.base import Args, Found, Props, Resource, Value, matching, normalised
from providers.connection import MinioConnection
from providers.minio.server import MinioClient, MinioProvider, unless

policy_name = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "must be 1 to 128 letters, digits, dots, dashes or underscores"
)


def document(value: Value) -> str | None:
    """Look at the form alone; the server judges the rest."""
    if isinstance(value, Mapping) and isinstance(value.get("Statement"), list) and value["Statement"]:
        return None
    return 'must be a policy document with a list of statements: {"Version": "2012-10-17", "Statement": [...]}'


def canonical(policy: Value) -> Value:
    """Return a form in which policies that mean the same are equal: MinIO sorts and makes lists."""
    if isinstance(policy, Mapping):
        return {key: canonical(item) for key, item in policy.items() if item not in ("", {}, [])}
    if isinstance(policy, list):
        ordered = sorted((canonical(item) for item in policy), key=lambda item: json.dumps(item, sort_keys=True))
        return ordered[0] if len(ordered) == 1 else ordered
    return policy


@dataclass(frozen=True)
class PolicyArgs(Args[MinioConnection]):
    """What a policy is."""

    policy: str
    """Its name; another name is another policy."""
    document: Mapping[str, Value]
    """The policy in AWS's JSON form; changed in place."""


class PolicyProvider(MinioProvider[PolicyArgs]):
    """Policies bear no mark: one that means the same is what was asked for."""

    args_type = PolicyArgs
    kind = "policy"
    identity = ("policy",)
    rules: ClassVar = {"policy": policy_name, "document": document}

    def find(self, client: MinioClient, args: PolicyArgs) -> Found | None:
        info = unless({"XMinioAdminNoSuchPolicy"}, lambda: client.admin.policy_info(args.policy))
        if info is None:
            return None
        real = normalised(json.loads(info))
        return Found({"document": args.document if canonical(real) == canonical(args.document) else real})

    def make(self, client: MinioClient, args: PolicyArgs) -> Props:
        client.admin.policy_add(args.policy, policy=dict(args.document))
        return {}

    def change(self, client: MinioClient, args: PolicyArgs, _found: Found) -> Props:
        return self.make(client, args)

    def remove(self, client: MinioClient, args: PolicyArgs, _found: Found) -> None:
        client.admin.policy_remove(args.policy)


class Policy(Resource, module="minio", name="Policy"):
    """A policy."""

    policy: pulumi.Output[str]

    def __init__(self, name: str, args: PolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PolicyProvider(), name, args, opts)
