"""What is deleted behind Pulumi's back comes back with `up --refresh`."""

from __future__ import annotations

import time

import pytest

from tests.e2e.environment import Environment, docker

pytestmark = pytest.mark.xdist_group("first")


def test_bucket_block_and_queue_come_back(env: Environment) -> None:
    client = env.minio()
    for each in client.list_objects("flows", recursive=True):
        client.remove_object("flows", each.object_name or "")
    client.remove_bucket("flows")
    block = env.http("/block_types/slug/remote-file-system/block_documents/name/dask-block")
    env.http(f"/block_documents/{block['id']}", method="DELETE")
    env.http("/work_pools/dask-pool/queues/dask-queue", method="DELETE")

    env.apply("--refresh")

    assert client.bucket_exists("flows")
    env.smoke()


def test_a_deleted_container_comes_back_with_its_data(env: Environment) -> None:
    runs = env.http("/flow_runs/count", {})
    docker("rm", "--force", env.name("prefect-server"), env.name("postgres"))
    env.apply("--refresh")
    env.smoke()
    assert env.http("/flow_runs/count", {}) > runs > 0


def test_a_worker_that_is_up_before_its_pool_waits_for_it(env: Environment) -> None:
    env.http("/work_pools/dask-pool", method="DELETE")
    worker = env.name("prefect-worker-dask-1")
    docker("restart", "--time", "10", worker)
    time.sleep(30)
    assert docker("inspect", "--format", "{{.State.Running}} {{.RestartCount}}", worker) == "true 0"
    env.apply("--refresh")
    env.smoke()


def test_a_deleted_image_is_built_again(env: Environment) -> None:
    docker("rm", "--force", env.name("minio"))
    image = env.image("minio")
    docker("image", "rm", image)
    env.apply("--refresh")
    assert image in env.objects("image")
    env.smoke()
