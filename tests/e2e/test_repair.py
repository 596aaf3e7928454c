"""What is deleted behind Pulumi's back comes back: with `up --refresh`, and a container with `scripts/up`, too."""

from __future__ import annotations

import time

import pytest

from tests.e2e.environment import Environment, docker

pytestmark = pytest.mark.xdist_group("first")


def test_what_lives_in_servers_comes_back_and_a_worker_waits_for_its_pool(env: Environment) -> None:
    client = env.minio()
    for each in client.list_objects("flows", recursive=True):
        client.remove_object("flows", each.object_name or "")
    client.remove_bucket("flows")
    block = env.http("/block_types/slug/remote-file-system/block_documents/name/dask-block")
    env.http(f"/block_documents/{block['id']}", method="DELETE")
    env.http("/work_pools/dask-pool", method="DELETE")
    worker = env.name("prefect-worker-dask-1")
    docker("restart", "--time", "10", worker)
    time.sleep(30)
    assert docker("inspect", "--format", "{{.State.Running}} {{.RestartCount}}", worker) == "true 0"

    env.apply("--refresh")

    assert client.bucket_exists("flows")
    assert env.http("/work_pools/dask-pool/queues/dask-queue")["name"] == "dask-queue"
    env.smoke()


def test_deleted_containers_come_back_with_their_data_and_images_are_built_again(env: Environment) -> None:
    runs = env.http("/flow_runs/count", {})
    docker("rm", "--force", env.name("prefect-server"), env.name("postgres"), env.name("minio"))
    image = env.image("minio")
    docker("image", "rm", image)
    done = env.up()
    assert f"made anew: {env.name('minio')}, {env.name('postgres')}, {env.name('prefect-server')}" in done.text
    assert image in env.objects("image")
    assert env.http("/flow_runs/count", {}) > runs > 0
