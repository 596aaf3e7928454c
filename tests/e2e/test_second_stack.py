"""A second stack on the same host: its first up is killed in the middle, it lives beside the first, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.flow_storage import RESULTS
from tests.e2e.environment import Environment, docker, environment, eventually, kill_with_pulumi

pytestmark = pytest.mark.xdist_group("second")


@pytest.fixture(scope="module", name="second")
def _second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    yield from environment(tmp_path_factory.mktemp("second"), "e2e-two", 200)


def test_an_up_that_was_killed_converges_when_started_again(second: Environment) -> None:
    with second.up_started() as started:
        eventually(lambda: second.objects("container"), 600)
        kill_with_pulumi(started)

    again = second.up()

    assert "lock" in again.text.lower()
    second.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_plain_pulumi_gets_over_an_up_that_was_killed(second: Environment) -> None:
    with second.up_started() as started:
        eventually(lambda: list(second.home.rglob("locks/**/*.json")), 120)
        kill_with_pulumi(started)
    assert "locked" in second.apply(ok=False).text
    second.pulumi("cancel", "--yes")
    second.apply("--refresh")


def test_a_stack_with_pulled_images_lives_beside_it_and_goes(
    second: Environment, registry: str, tmp_path: Path
) -> None:
    """Image source `registry`, against Debian's docker-registry on loopback that holds our own builds.

    The official images can't be had on a mirror-only network; ours keep their contracts, and everything but the
    bytes is the same: references by tag and by digest, the pull, and Prefect built on the pulled image.
    """
    images = {
        "source": "registry",
        "prefect": second.push("prefect", f"{registry}/prefecthq/prefect:3.8.8").partition("@")[0],
        "postgres": second.push("postgres", f"{registry}/library/postgres:15.0-bookworm"),
        "minio": second.push("minio", f"{registry}/pgsty/silo:RELEASE"),
    }
    assert "No such image" in docker("image", "inspect", images["minio"], ok=False), "it must be pulled"
    for other in environment(tmp_path, "e2e-reg", 300, images=images):
        other.up()
        for name in ("postgres", "minio"):
            running = docker("inspect", "--format", "{{.Image}}", other.name(name))
            assert running == docker("image", "inspect", "--format", "{{.Id}}", images[name])
        other.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")

        second.smoke()
        assert set(second.objects("container")).isdisjoint(other.objects("container"))
        assert len(second.objects("network")) == len(other.objects("network")) == 5

        other.down("--purge")
        left = {kind: other.objects(kind) for kind in ("container", "network", "volume", "image")}
        assert left == {"container": [], "network": [], "volume": [], "image": []}
    for name in ("postgres", "minio"):
        docker("image", "rm", images[name])  # Pulled ones a purge leaves: they may be others', too.
    docker("image", "rm", images["prefect"], ok=False)  # Some builders keep the base under its name, some do not.
    second.smoke()


def test_root_rotates_while_a_bucket_is_removed(second: Environment) -> None:
    """The removed bucket is deleted with the credentials of now, not with those that it was made with."""
    client = second.minio()
    # Code is the stack's to remove; what runs left there is not, and keeps a bucket.
    for result in client.list_objects("flows", prefix=f"{RESULTS}/", recursive=True):
        client.remove_object("flows", result.object_name or "")
    urn = second.urn("GeneratedSecret", "minio-root-password")
    second.pulumi("state", "unprotect", urn, "--yes")
    second.write_settings(minio={"bucket": "flows-two"})
    second.apply("--replace", urn)
    buckets = docker("exec", second.name("minio"), "ls", "/data").split()
    assert "flows-two" in buckets
    assert "flows" not in buckets
    second.smoke()


def test_down_keeps_the_data_and_up_finds_it(second: Environment) -> None:
    runs = second.http("/flow_runs/count", {})
    assert runs > 0
    second.down()
    assert second.objects("container") == []
    assert sorted(second.objects("volume")) == [second.name("minio-data"), second.name("postgres-data")]
    second.up()
    assert second.http("/flow_runs/count", {}) > runs


def test_purge_leaves_nothing(second: Environment) -> None:
    second.down("--purge")
    left = {kind: second.objects(kind) for kind in ("container", "network", "volume", "image")}
    assert left == {"container": [], "network": [], "volume": [], "image": []}
