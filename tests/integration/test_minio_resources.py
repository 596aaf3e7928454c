"""Every MinIO resource through its whole life, against a real server."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio, MinioAdmin
from minio.commonconfig import Filter, Tags
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from providers.minio.access_key import AccessKeyProvider
from providers.minio.bucket import OWNER_TAG, BucketProvider
from providers.minio.expiry import ExpiryProvider
from providers.minio.object_tree import ObjectTreeProvider, tree
from providers.minio.policy import PolicyProvider
from providers.minio.policy_attachment import PolicyAttachmentProvider
from providers.minio.user import UserProvider
from tests.integration.conftest import RunningMinio
from tests.integration.harness import OWNER, Case, Lifecycle, Props

Make = Callable[[RunningMinio, Path], Case]


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def put(minio: RunningMinio, bucket: str, name: str, content: bytes = b"x") -> None:
    minio.s3.put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(content), length=len(content))


def lets_in(minio: RunningMinio, access_key: str, secret_key: str) -> bool:
    """Whether the server knows this pair: it may be told that it may do nothing, then."""
    endpoint = minio.connection["url"].removeprefix("http://")
    try:
        Minio(endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=False).list_buckets()
    except S3Error as error:
        return error.code == "AccessDenied"
    return True


def users(minio: RunningMinio) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(minio.admin.user_list())
    return found


def bucket(minio: RunningMinio, _tmp: Path) -> Case:
    name = unique("bucket")

    def tags(of: str) -> dict[str, str]:
        return dict(minio.s3.get_bucket_tags(bucket_name=of) or {})

    def foreign() -> None:
        minio.s3.make_bucket(bucket_name=name)
        put(minio, name, "somebody's")

    def another_owner() -> None:
        changed = Tags.new_bucket_tags()
        changed[OWNER_TAG] = "somebody/else"
        minio.s3.set_bucket_tags(bucket_name=name, tags=changed)

    return Case(
        provider=BucketProvider(),
        inputs={"connection": minio.connection, "bucket": name, "force_destroy": False},
        replace={"bucket": unique("bucket")},
        holds=lambda inputs: tags(inputs["bucket"]).get(OWNER_TAG) == OWNER,
        exists=lambda inputs: minio.s3.bucket_exists(bucket_name=inputs["bucket"]),
        drift=another_owner,
        vanish=lambda: minio.s3.remove_bucket(bucket_name=name),
        foreign=foreign,
        invalid=[("bucket", "Has-Capitals"), ("bucket", "x"), ("bucket", "under_score")],
        secrets=(str(minio.connection["secret_key"]),),
    )


def user(minio: RunningMinio, _tmp: Path) -> Case:
    name, secret, newer = unique("user"), secrets.token_hex(12), secrets.token_hex(12)
    return Case(
        provider=UserProvider(),
        inputs={"connection": minio.connection, "user": name, "secret_key": secret},
        update={"secret_key": newer},
        replace={"user": unique("user")},
        holds=lambda inputs: lets_in(minio, inputs["user"], inputs["secret_key"]),
        exists=lambda inputs: inputs["user"] in users(minio),
        drift=lambda: minio.admin.user_add(name, "another-secret"),
        vanish=lambda: minio.admin.user_remove(name),
        foreign=lambda: minio.admin.user_add(name, "somebody's-secret"),
        invalid=[("user", "a b"), ("user", "x"), ("secret_key", "short"), ("secret_key", "x" * 41)],
        secrets=(str(minio.connection["secret_key"]), secret, newer),
    )


def statement(action: str, name: str) -> Props:
    return {"Effect": "Allow", "Action": [action], "Resource": [f"arn:aws:s3:::{name}/*"]}


def policy(minio: RunningMinio, _tmp: Path) -> Case:
    name = unique("policy")
    read = {"Version": "2012-10-17", "Statement": [statement("s3:GetObject", "flows")]}
    # Not the server's form: not sorted, doubled, strings for lists.
    write = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject"],
                "Resource": "arn:aws:s3:::flows/*",
                "Condition": {"StringEquals": {"aws:username": "somebody"}},
            },
            statement("s3:DeleteObject", "flows"),
        ],
    }

    def policies() -> dict[str, Props]:
        found: dict[str, Props] = json.loads(minio.admin.policy_list())
        return found

    def actions(document: Props) -> set[str]:
        return {action for each in document["Statement"] for action in each["Action"]}

    return Case(
        provider=PolicyProvider(),
        inputs={"connection": minio.connection, "policy": name, "document": read},
        update={"document": write},
        replace={"policy": unique("policy")},
        holds=lambda inputs: actions(policies()[inputs["policy"]]) == actions(inputs["document"]),
        exists=lambda inputs: inputs["policy"] in policies(),
        drift=lambda: minio.admin.policy_add(name, policy=write),
        vanish=lambda: minio.admin.policy_remove(name),
        foreign=lambda: minio.admin.policy_add(name, policy=write),
        invalid=[("policy", "a/b"), ("document", {}), ("document", {"Statement": []}), ("document", "{}")],
        secrets=(str(minio.connection["secret_key"]),),
    )


def policy_attachment(minio: RunningMinio, _tmp: Path) -> Case:
    who, other = unique("user"), unique("user")
    for each in (who, other):
        minio.admin.user_add(each, secrets.token_hex(12))
    minio.admin.attach_policy(["readonly"], user=who)

    def attached(inputs: Props) -> bool:
        return inputs["policy"] in users(minio)[inputs["user"]].get("policyName", "").split(",")

    return Case(
        provider=PolicyAttachmentProvider(),
        inputs={"connection": minio.connection, "policy": "readwrite", "user": who},
        replace={"user": other},
        holds=attached,
        exists=attached,
        vanish=lambda: minio.admin.detach_policy(["readwrite"], user=who),
        invalid=[("policy", "a/b"), ("user", "a b")],
        secrets=(str(minio.connection["secret_key"]),),
    )


def access_key(minio: RunningMinio, _tmp: Path) -> Case:
    who, password = unique("user"), secrets.token_hex(12)
    other = unique("user")
    for each in (who, other):
        minio.admin.user_add(each, password)
        minio.admin.attach_policy(["readwrite"], user=each)
    name, secret, newer = secrets.token_hex(8), secrets.token_hex(16), secrets.token_hex(16)

    def account(of: str) -> Props | None:
        try:
            found: Props = json.loads(minio.admin.get_service_account(of))
        except MinioAdminException:
            return None
        return found

    def holds(inputs: Props) -> bool:
        found = account(inputs["access_key"])
        return (
            found is not None
            and found["parentUser"] == inputs["user"]
            and found.get("description") == inputs["description"]
            and lets_in(minio, inputs["access_key"], inputs["secret_key"])
        )

    def vanish() -> None:
        minio.admin.delete_service_account(name)

    def roots() -> None:
        minio.admin.add_service_account(access_key=name, secret_key=secret)

    def taken() -> None:
        endpoint = minio.connection["url"].removeprefix("http://")
        MinioAdmin(endpoint=endpoint, credentials=StaticProvider(who, password), secure=False).add_service_account(
            access_key=name, secret_key="somebody's-secret"
        )

    def made_by_root() -> None:
        vanish()
        roots()

    return Case(
        provider=AccessKeyProvider(),
        inputs={
            "connection": minio.connection,
            "user": who,
            "user_secret_key": password,
            "access_key": name,
            "secret_key": secret,
            "description": "worker",
        },
        update={"secret_key": newer, "description": "worker of flows"},
        replace={"access_key": secrets.token_hex(8)},
        holds=holds,
        exists=lambda inputs: account(inputs["access_key"]) is not None,
        drift=made_by_root,
        drift_step="replace",
        vanish=vanish,
        foreign=taken,
        invalid=[("access_key", "x" * 21), ("secret_key", "short"), ("user", "a b")],
        secrets=(str(minio.connection["secret_key"]), secret, newer, password),
    )


def object_tree(minio: RunningMinio, tmp: Path) -> Case:
    where = unique("bucket")
    minio.s3.make_bucket(bucket_name=where)
    source = tmp / "greetings"
    (source / "lib").mkdir(parents=True)
    (source / "flow.py").write_text("print('hello')\n")
    (source / "lib" / "naïve name.py").write_text("x = 1\n")
    (source / "empty").touch()
    first = tree(source)
    newer = tmp / "newer"
    (newer / "lib").mkdir(parents=True)
    (newer / "flow.py").write_text("print('hello again')\n")
    second = tree(newer)

    def contents(prefix: str) -> dict[str, bytes]:
        listed = minio.s3.list_objects(bucket_name=where, prefix=f"{prefix}/", recursive=True)
        names = [str(each.object_name) for each in listed]
        return {
            name.removeprefix(f"{prefix}/"): minio.s3.get_object(bucket_name=where, object_name=name).data
            for name in names
        }

    def holds(inputs: Props) -> bool:
        local = Path(inputs["source"])
        wanted = {name: (local / name).read_bytes() for name in inputs["files"]}
        return contents(inputs["object_prefix"]) == wanted

    def vanish() -> None:
        for name in contents("greetings"):
            minio.s3.remove_object(bucket_name=where, object_name=f"greetings/{name}")

    def drift() -> None:
        put(minio, where, f"greetings/{first.hash}/flow.py", b"print('tampered')")
        put(minio, where, f"greetings/{first.hash}/stray.py")
        minio.s3.remove_object(bucket_name=where, object_name=f"greetings/{first.hash}/empty")

    return Case(
        provider=ObjectTreeProvider(),
        inputs={
            "connection": minio.connection,
            "bucket": where,
            "prefix": "greetings",
            "source": str(source),
            "files": first.files,
            "object_prefix": f"greetings/{first.hash}",
        },
        update={"source": str(newer), "files": second.files, "object_prefix": f"greetings/{second.hash}"},
        replace={"prefix": "hello", "object_prefix": f"hello/{first.hash}"},
        holds=holds,
        exists=lambda inputs: bool(contents(inputs["prefix"])),
        drift=drift,
        vanish=vanish,
        foreign=lambda: put(minio, where, f"greetings/{first.hash}/flow.py", b"somebody's"),
        invalid=[("prefix", "/greetings"), ("prefix", "a//b"), ("bucket", "x")],
        secrets=(str(minio.connection["secret_key"]),),
    )


def expiry(minio: RunningMinio, _tmp: Path) -> Case:
    where, name = unique("bucket"), unique("rule")
    minio.s3.make_bucket(bucket_name=where)
    # Somebody's, which must outlive all that is done to ours.
    put_rule(minio, where, "theirs", ("elsewhere/", 9))

    def rules() -> dict[str | None, tuple[str | None, int | None]]:
        found = {
            rule.rule_id: (rule.rule_filter.prefix, rule.expiration.days)
            for rule in getattr(minio.s3.get_bucket_lifecycle(bucket_name=where), "rules", [])
            if rule.status == "Enabled" and rule.rule_filter and rule.expiration
        }
        assert found.pop("theirs") == ("elsewhere/", 9)
        return found

    def vanish() -> None:
        minio.s3.delete_bucket_lifecycle(bucket_name=where)
        put_rule(minio, where, "theirs", ("elsewhere/", 9))

    return Case(
        provider=ExpiryProvider(),
        inputs={"connection": minio.connection, "bucket": where, "rule": name, "prefix": "_results/", "days": 30},
        update={"prefix": "results/", "days": 1},
        replace={"rule": unique("rule")},
        holds=lambda inputs: rules().get(inputs["rule"]) == (inputs["prefix"], inputs["days"]),
        exists=lambda inputs: inputs["rule"] in rules(),
        drift=lambda: put_rule(minio, where, name, ("_results/", 30), status="Disabled"),
        vanish=vanish,
        foreign=lambda: put_rule(minio, where, name, ("_results/", 7)),
        invalid=[("days", 0), ("prefix", "_results"), ("prefix", "/"), ("prefix", ""), ("rule", " "), ("bucket", "x")],
        secrets=(str(minio.connection["secret_key"]),),
    )


def put_rule(minio: RunningMinio, bucket: str, name: str, rule: tuple[str, int], status: str = "Enabled") -> None:
    """Put a rule, of a prefix and its days, beside those that are there, in place of one of its name."""
    prefix, days = rule
    config = minio.s3.get_bucket_lifecycle(bucket_name=bucket)
    others = [each for each in (config.rules if config else []) if each.rule_id != name]
    new = Rule(status, rule_filter=Filter(prefix=prefix), rule_id=name, expiration=Expiration(days=days))
    minio.s3.set_bucket_lifecycle(bucket_name=bucket, config=LifecycleConfig([*others, new]))


MAKERS: list[Make] = [bucket, expiry, user, policy, policy_attachment, access_key, object_tree]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, minio_server: RunningMinio, tmp_path: Path) -> Case:
    make: Make = request.param
    return make(minio_server, tmp_path)


class TestMinio(Lifecycle):
    """Of each resource in MAKERS."""
