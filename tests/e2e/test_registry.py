"""Image source `registry`, against Debian's docker-registry on loopback that holds our own builds.

The official images can't be had on a mirror-only network; ours keep their contracts, and everything but the bytes is
the same: references by tag and by digest, the pull, and Prefect built on the pulled image.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.environment import Environment, docker, environment


def pushed(env: Environment, image: str, reference: str) -> str:
    """Push a built image of `env` under `reference`, forget it here, and return the reference by digest."""
    docker("tag", env.image(image), reference)
    digest = docker("push", "--quiet", reference) and docker(
        "inspect", "--format", "{{index .RepoDigests 0}}", reference
    )
    docker("image", "rm", reference)
    return f"{reference}@{digest.rpartition('@')[2]}"


def test_a_stack_with_pulled_images_greets(env: Environment, registry: str, tmp_path: Path) -> None:
    images = {
        "source": "registry",
        "prefect": pushed(env, "prefect", f"{registry}/prefecthq/prefect:3.8.8").partition("@")[0],
        "postgres": pushed(env, "postgres", f"{registry}/library/postgres:15.0-bookworm"),
        "minio": pushed(env, "minio", f"{registry}/pgsty/silo:RELEASE"),
    }
    assert "No such image" in docker("image", "inspect", images["minio"], ok=False), "it must be pulled"
    for other in environment(tmp_path, "e2e-reg", 300, images=images):
        other.up()
        for name in ("postgres", "minio"):
            running = docker("inspect", "--format", "{{.Image}}", other.name(name))
            assert running == docker("image", "inspect", "--format", "{{.Id}}", images[name])
        other.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")
        other.down("--purge")
        assert other.objects("container") == []
