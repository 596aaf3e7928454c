"""What a change of flows, secrets and images does, and what it leaves alone."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.e2e.environment import NAMESPACE, Environment, docker, eventually

pytestmark = pytest.mark.xdist_group("first")


def steps(env: Environment, *words: str) -> dict[str, str]:
    """Resource (`Type::name`) to what a preview would do with it, unless nothing."""
    text = env.pulumi("preview", "--json", "--non-interactive", *words).text
    shown = json.loads(text[text.index("\n{\n") :] if not text.startswith("{") else text)
    return {
        step["urn"].rpartition("$")[2].partition("::")[0].rpartition(":")[2]
        + "::"
        + step["urn"].rpartition("::")[2]: step["op"]
        for step in shown["steps"]
        if step["op"] != "same"
    }


def test_a_changed_flow_is_deployed_and_runs_changed(env: Environment) -> None:
    file = env.root / "flows/greetings/dask_flow.py"
    before = env.run_deployment("greetings/test-deployment")
    found = env.http("/deployments/name/greetings/test-deployment")
    text = file.read_text()
    file.write_text(text.replace("hello {name}", "good morning {name}"))
    try:
        env.apply()
        after = env.run_deployment("greetings/test-deployment")
        assert "hello Michał" in env.logs(before["id"])
        assert "good morning Michał" in env.logs(after["id"])
        assert env.http("/deployments/name/greetings/test-deployment")["id"] == found["id"]
    finally:
        file.write_text(text)
        env.apply()


def test_a_changed_block_secret_is_an_update_in_place(env: Environment) -> None:
    urn = env.urn("GeneratedSecret", "prefect-user-key-secret")
    containers = {name: docker("inspect", "--format", "{{.Id}}", name) for name in env.objects("container")}
    env.pulumi("state", "unprotect", urn, "--yes")
    planned = steps(env, "--replace", urn)
    assert planned["Block::dask-block"] == "update"
    assert planned["Block::greetings-code"] == "update"
    assert planned["AccessKey::prefect-user-key"] == "update"
    env.apply("--replace", urn)
    env.smoke()
    assert {name: docker("inspect", "--format", "{{.Id}}", name) for name in env.objects("container")} == containers


def test_another_image_source_is_refused_before_it_meets_the_data(env: Environment) -> None:
    before = env.settings["images"]
    env.write_settings(images={"source": "registry"})
    try:
        refused = env.pulumi("preview", "--non-interactive", ok=False)
    finally:
        env.write_settings(images=before)
    assert refused.code != 0
    assert "images.source from build to registry" in refused.text
    assert "Set it back" in refused.text


def test_a_stopped_container_survives_a_preview_with_refresh(env: Environment) -> None:
    name = env.name("dask-worker-2")
    before = docker("inspect", "--format", "{{.Id}}", name)
    docker("stop", name)
    try:
        env.pulumi("preview", "--refresh", "--non-interactive")
        assert docker("inspect", "--format", "{{.Id}}", name) == before
    finally:
        docker("start", name)


def test_an_edited_recipe_makes_a_new_image_and_up_removes_the_old_one(env: Environment, tmp_path: Path) -> None:
    # As the newer Docker provider leaves one: without labels.
    tarfile.open(tmp_path / "empty.tar", "w").close()
    unlabelled = f"{NAMESPACE}-{env.stack}/minio:older"
    docker("import", str(tmp_path / "empty.tar"), unlabelled)
    [worker_image] = [image for image in env.objects("image") if "/worker:" in image]
    somebodys = docker("create", worker_image)
    recipe = env.root / "images/minio/docker-entrypoint.sh"
    text = recipe.read_text()
    before = {image for image in env.objects("image") if "/minio:" in image}
    recipe.write_text(text + "# edited\n")
    try:
        env.up()
        after = {image for image in env.objects("image") if "/minio:" in image}
        assert len(after) == 1
        assert after.isdisjoint(before)
        assert not docker("image", "ls", "--quiet", unlabelled)
        docker("inspect", somebodys)
    finally:
        docker("rm", somebodys, ok=False)
        recipe.write_text(text)
        env.up()


def test_a_worker_that_is_replaced_finishes_its_runs(env: Environment) -> None:
    """A run of 30 seconds survives a change of its worker's image."""
    slow = env.root / "flows/greetings/slow_flow.py"
    slow.write_text(
        "import time\nfrom prefect import flow\n\n"
        "@flow(log_prints=True)\ndef slow():\n    time.sleep(30)\n    print('done')\n"
    )
    flows = json.loads(json.dumps(env.settings["flows"]))
    changed = json.loads(json.dumps(flows))
    changed["greetings"]["deployments"]["slow"] = {"entrypoint": "slow_flow.py:slow"}
    try:
        env.write_settings(flows=changed)
        env.apply()
        deployment = env.http("/deployments/name/slow/slow")["id"]
        started = env.http(f"/deployments/{deployment}/create_flow_run", {})
        eventually(lambda: env.http(f"/flow_runs/{started['id']}")["state_type"] == "RUNNING", 60)
        env.write_settings(workers={"dask": {"pool": "dask-pool", "queues": ["dask-queue"], "memory_mb": 1100}})
        worker = env.name("prefect-worker-dask-1")
        planned = steps(env)
        assert planned["Container::prefect-worker-dask-1"] in {
            "replace",
            "update",
            "create-replacement",
            "delete-replaced",
        }
        before = docker("inspect", "--format", "{{.Id}}", worker)
        env.apply("--replace", env.urn("Container", "prefect-worker-dask-1"))
        assert docker("inspect", "--format", "{{.Id}}", worker) != before
        assert env.followed(started["id"])["state_type"] == "COMPLETED"
    finally:
        slow.unlink()
        env.write_settings(flows=flows, workers=None)
        env.apply()
