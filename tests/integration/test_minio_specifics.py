"""What is particular to single MinIO resources, and to MinIO as a server."""

from __future__ import annotations

import io
import secrets
import threading
import time
from pathlib import Path

import pytest
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.versioningconfig import VersioningConfig

from components.flow_storage import RESULTS
from providers import connection as waits
from providers.base import ProviderError
from providers.connection import MinioConnection
from providers.minio.access_key import AccessKeyProvider
from providers.minio.bucket import BucketProvider
from providers.minio.expiry import ExpiryProvider
from providers.minio.object_tree import ObjectTreeProvider, tree
from providers.minio.policy import PolicyProvider, canonical
from providers.minio.policy_attachment import PolicyAttachmentProvider
from providers.minio.user import UserProvider
from tests.e2e.environment import eventually
from tests.integration.conftest import RunningMinio, running_minio
from tests.integration.harness import OWNER, Engine, Props, failing


def program(minio: RunningMinio, **inputs: object) -> Props:
    return {"connection": minio.connection, "owner": OWNER, "adopt": False} | inputs


def put(minio: RunningMinio, bucket: str, name: str) -> None:
    minio.s3.put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(b"x"), length=1)


@pytest.fixture
def name() -> str:
    return f"test-{secrets.token_hex(4)}"


def test_a_bucket_with_objects_stays_unless_forced(minio_server: RunningMinio, name: str) -> None:
    engine = Engine(BucketProvider())
    inputs = program(minio_server, bucket=name, force_destroy=False)
    engine.up(inputs)
    put(minio_server, name, "a/b")
    text = failing(engine.destroy)
    assert "not empty" in text
    assert "force_destroy=True" in text
    assert minio_server.s3.stat_object(bucket_name=name, object_name="a/b").size == 1
    assert engine.up(inputs | {"force_destroy": True}) == "update"
    engine.destroy()
    assert not minio_server.s3.bucket_exists(bucket_name=name)


def test_a_forced_bucket_goes_with_all_versions(minio_server: RunningMinio, name: str) -> None:
    engine = Engine(BucketProvider())
    engine.up(program(minio_server, bucket=name, force_destroy=True))
    minio_server.s3.set_bucket_versioning(bucket_name=name, config=VersioningConfig(status="Enabled"))
    put(minio_server, name, "a")
    put(minio_server, name, "a")
    minio_server.s3.remove_object(bucket_name=name, object_name="a")
    engine.destroy()
    assert not minio_server.s3.bucket_exists(bucket_name=name)


def test_a_bucket_made_without_its_mark_heals(minio_server: RunningMinio, name: str) -> None:
    # A crash between making the bucket and marking it.
    minio_server.s3.make_bucket(bucket_name=name)
    assert Engine(BucketProvider()).up(program(minio_server, bucket=name)) == "create"
    tags = minio_server.s3.get_bucket_tags(bucket_name=name)
    assert tags is None or tags["prefect-environment.owner"] == OWNER


def test_another_stacks_bucket_is_refused(minio_server: RunningMinio, name: str) -> None:
    Engine(BucketProvider()).up(program(minio_server, bucket=name, owner="prefect-environment/other"))
    text = failing(lambda: Engine(BucketProvider()).up(program(minio_server, bucket=name)))
    assert "adopt=True" in text


def test_old_results_go_and_code_never(minio_server: RunningMinio, name: str) -> None:
    Engine(BucketProvider()).up(program(minio_server, bucket=name, force_destroy=False))
    rule = program(minio_server, bucket=name, rule="results", prefix=f"{RESULTS}/", days=30)
    assert Engine(ExpiryProvider()).up(rule) == "create"
    for each in (f"{RESULTS}/a", "greetings/0123456789abcdef/flow.py", f"{RESULTS}-of-old"):
        put(minio_server, name, each)

    def expires(of: str) -> str | None:
        # What MinIO will do, in its own words; it does so at midnight.
        found = minio_server.s3.stat_object(bucket_name=name, object_name=of).metadata
        return dict(found or {}).get("x-amz-expiration")

    assert 'rule-id="results"' in str(expires(f"{RESULTS}/a"))
    assert expires("greetings/0123456789abcdef/flow.py") is None
    assert expires(f"{RESULTS}-of-old") is None

    # The stack was taken down with the rule, and comes back without.
    again = Engine(ExpiryProvider())
    assert again.up(rule | {"days": None, "adopt": True}) == "create"
    assert expires(f"{RESULTS}/a") is None
    assert again.refresh() == "same"
    assert again.up(rule | {"days": None, "adopt": True}) == "same"
    assert again.up(rule | {"adopt": True}) == "update"
    assert expires(f"{RESULTS}/a")


@pytest.fixture
def worker(minio_server: RunningMinio, name: str) -> dict[str, str]:
    """Make the worker's user, with a policy for one bucket, and its access key, as a stack does."""
    for bucket in (name, f"{name}-other"):
        Engine(BucketProvider()).up(program(minio_server, bucket=bucket))
    password, secret, key = secrets.token_hex(12), secrets.token_hex(16), secrets.token_hex(8)
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetObject", "s3:PutObject"],
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            }
        ],
    }
    Engine(UserProvider()).up(program(minio_server, user=name, secret_key=password))
    Engine(PolicyProvider()).up(program(minio_server, policy=name, document=document))
    Engine(PolicyAttachmentProvider()).up(program(minio_server, policy=name, user=name))
    Engine(AccessKeyProvider()).up(
        program(
            minio_server,
            user=name,
            user_secret_key=password,
            access_key=key,
            secret_key=secret,
            description="worker",
        )
    )
    return {"bucket": name, "access_key": key, "secret_key": secret}


def test_an_access_key_may_what_its_user_may_and_no_more(minio_server: RunningMinio, worker: dict[str, str]) -> None:
    endpoint = minio_server.connection["url"].removeprefix("http://")
    access_key, secret_key = worker["access_key"], worker["secret_key"]
    # With a region, since the client would look it up, which this user may not.
    s3 = Minio(endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=False, region="us-east-1")
    s3.put_object(bucket_name=worker["bucket"], object_name="result", data=io.BytesIO(b"1"), length=1)
    assert s3.get_object(bucket_name=worker["bucket"], object_name="result").data == b"1"
    with pytest.raises(S3Error, match="AccessDenied"):
        s3.put_object(bucket_name=f"{worker['bucket']}-other", object_name="x", data=io.BytesIO(b"1"), length=1)
    admin = MinioAdmin(endpoint=endpoint, credentials=StaticProvider(access_key, secret_key), secure=False)
    with pytest.raises(MinioAdminException, match="AccessDenied"):
        admin.user_list()


def test_an_access_key_for_a_user_who_may_nothing_says_what_is_missing(minio_server: RunningMinio, name: str) -> None:
    password = secrets.token_hex(12)
    minio_server.admin.user_add(name, password)
    inputs = program(
        minio_server, user=name, user_secret_key=password, access_key="k", secret_key="x" * 16, description=""
    )
    inputs["access_key"] = secrets.token_hex(8)
    text = failing(lambda: Engine(AccessKeyProvider()).up(inputs), password)
    assert "PolicyAttachment" in text
    text = failing(lambda: Engine(AccessKeyProvider()).up(inputs | {"user_secret_key": "wrong-password"}))
    assert "user_secret_key" in text


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"Action": ["b", "a"]}, {"Action": ["a", "b"]}),
        ({"Action": "a"}, {"Action": ["a"]}),
        ({"Sid": ""}, {}),
        (
            {"Condition": {"StringEquals": {"k": "v"}}},
            {"Condition": {"StringEquals": {"k": ["v"]}}},
        ),
    ],
)
def test_policies_that_mean_the_same_are_equal(ours: Props, theirs: Props) -> None:
    assert canonical({"Statement": [ours]}) == canonical({"Statement": [theirs]})
    assert canonical({"Statement": [ours]}) != canonical({"Statement": [theirs | {"Effect": "Deny"}]})


class Project:
    """A flow project's directory, and its tree in a bucket."""

    def __init__(self, minio: RunningMinio, bucket: str, directory: Path) -> None:
        self.minio, self.bucket, self.directory = minio, bucket, directory
        self.engine = Engine(ObjectTreeProvider())

    def up(self, content: str) -> str:
        """Write the flow, bring it up, and return its hash."""
        (self.directory / "flow.py").write_text(content)
        local = tree(self.directory)
        self.engine.up(
            program(
                self.minio,
                bucket=self.bucket,
                prefix="p",
                source=str(self.directory),
                files=local.files,
                object_prefix=f"p/{local.hash}",
            )
        )
        return local.hash

    def hashes(self) -> set[str]:
        """Return the content hashes that the bucket holds."""
        listed = self.minio.s3.list_objects(bucket_name=self.bucket, prefix="p/", recursive=True)
        return {str(each.object_name).split("/")[1] for each in listed}


@pytest.fixture
def project(minio_server: RunningMinio, name: str, tmp_path: Path) -> Project:
    minio_server.s3.make_bucket(bucket_name=name)
    return Project(minio_server, name, tmp_path)


def test_a_tree_keeps_the_content_before(project: Project) -> None:
    first, second, third = project.up("1"), project.up("2"), project.up("3")
    assert project.hashes() == {second, third}
    # Back to a content that is still there: what was current stays for its runs.
    assert project.up("2") == second
    assert project.hashes() == {second, third}
    fourth = project.up("4")
    assert project.hashes() == {second, fourth}
    assert first not in project.hashes()
    put(project.minio, project.bucket, "p/notes.txt")
    project.engine.destroy()
    assert project.hashes() == {"notes.txt"}


def test_a_file_larger_than_a_part_has_its_md5_as_etag(project: Project) -> None:
    (project.directory / "model.bin").write_bytes(b"x" * (6 * 1024**2))
    project.up("1")
    assert project.engine.refresh() == "same"


def test_a_file_that_changes_under_the_upload_is_an_error(project: Project) -> None:
    project.up("1")
    local = tree(project.directory)
    (project.directory / "flow.py").write_text("changed since")
    inputs = program(
        project.minio,
        bucket=project.bucket,
        prefix="q",
        source=str(project.directory),
        files=local.files,
        object_prefix=f"q/{local.hash}",
    )
    assert "has changed since" in failing(lambda: Engine(ObjectTreeProvider()).up(inputs))


def test_half_an_upload_is_completed(project: Project) -> None:
    (project.directory / "flow.py").write_text("1")
    (project.directory / "helper.py").write_text("2")
    local = tree(project.directory)
    project.minio.s3.put_object(
        bucket_name=project.bucket, object_name=f"p/{local.hash}/flow.py", data=io.BytesIO(b"1"), length=1
    )
    project.up("1")
    assert project.engine.refresh() == "same"


def test_caches_and_repositories_are_no_part_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text("1")
    before = tree(tmp_path)
    for directory in ("__pycache__", ".git", ".venv", "lib/__pycache__"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "x").write_text("1")
    (tmp_path / "old.pyc").write_text("1")
    assert tree(tmp_path) == before
    assert set(before.files) == {"flow.py"}
    (tmp_path / "flow.py").rename(tmp_path / "flow2.py")
    assert tree(tmp_path).hash != before.hash


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_tree_of_nothing_is_an_error(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"nothing to upload\. Name the directory"):
        tree(tmp_path / what)


def test_root_is_rotated_and_a_bucket_goes_in_one_up(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "DEADLINE", 20)
    engine = Engine(BucketProvider())
    with running_minio(tmp_path, "first-password") as before:
        engine.up(program(before, bucket=name))
        other = Engine(BucketProvider())
        other.up(program(before, bucket=f"{name}-2"))
    # The container is replaced; what stays is checked with the new connection, what goes has the old one.
    late: list[RunningMinio] = []
    ended = threading.Event()

    def serve() -> None:
        time.sleep(1)
        with running_minio(tmp_path, "second-password", before.port) as after:
            late.append(after)
            ended.wait(60)

    server = threading.Thread(target=serve)
    server.start()
    try:
        connection = {**before.connection, "secret_key": "second-password"}
        assert other.up(program(before, bucket=f"{name}-2", connection=connection)) == "update"
        engine.destroy()
        [after] = eventually(lambda: late, 30)
        assert not after.s3.bucket_exists(bucket_name=name)
        assert after.s3.bucket_exists(bucket_name=f"{name}-2")
    finally:
        ended.set()
        server.join()


def test_what_is_no_minio_is_an_error_not_a_wait(name: str) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Other(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(500)

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            connection = MinioConnection(server="other", url=url, access_key="a", secret_key="secret-of-ours")
            with pytest.raises(ProviderError, match="Cannot create bucket"):
                Engine(BucketProvider()).up({"connection": connection, "owner": OWNER, "bucket": name})
        finally:
            server.shutdown()
            thread.join()
