"""What CI asks of a stack: what would change, what has drifted; and what the policy pack refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.lib import tools
from scripts.lib.policy import PACK
from tests.e2e.environment import Done, Environment, docker, run
from toolchain.artefacts import artefact

pytestmark = pytest.mark.xdist_group("first")

OFFLINE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "offline"]
"""Runs a command in a network of its own, with nothing but loopback."""


def preview(env: Environment, *words: str, stack: str | None = None) -> Done:
    return env.run("scripts/preview", "--stack", stack or env.stack, *words, ok=False)


def drift(env: Environment) -> Done:
    return env.run("scripts/drift", "--stack", env.stack, ok=False)


@contextmanager
def changed(env: Environment, **settings: Any) -> Iterator[None]:
    before = {key: env.settings.get(key) for key in settings}
    env.write_settings(**settings)
    try:
        yield
    finally:
        env.write_settings(**before)


def told(done: Done) -> list[str]:
    """The lines of changes, sorted by Pulumi's signs."""
    return [line for line in done.text.splitlines() if re.match(r"[-±~+!] ", line)]


def things(env: Environment) -> Mapping[str, object]:
    """All that a preview must leave alone: the state, and containers with the moment of their start."""
    started = {
        name: docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name) for name in env.objects("container")
    }
    return {"state": env.exported(), **started}


def test_a_change_is_told_for_a_pull_request_and_nothing_is_touched(env: Environment, tmp_path: Path) -> None:
    before = things(env)
    comment = tmp_path / "comment.md"
    with changed(env, dask={"memory_mb": 900, "workers": 3}):
        done = preview(env, "--comment", str(comment))
    assert done.code == 0, done.text
    worker = '(command[8]: "1024MiB" → "900MiB", memory: 1024 → 900, memorySwap: 1024 → 900)'
    assert told(done) == [
        f"± replace Container dask-worker-1 {worker}",
        f"± replace Container dask-worker-2 {worker}",
        "~ update Container dask-scheduler (memory: 1024 → 900, memorySwap: 1024 → 900)",
        "+ create Container dask-worker-3",
    ]
    assert done.text.rstrip().endswith(f"stack {env.stack}: 2 to replace, 1 to update, 1 to create")
    body = comment.read_text()
    assert body.startswith(f"### Stack `{env.stack}`: 2 to replace, 1 to update, 1 to create\n")
    assert all(line in body for line in told(done))
    assert things(env) == before


def test_no_change_is_what_was_expected(env: Environment) -> None:
    done = preview(env, "--expect-no-changes")
    assert done.code == 0, done.text
    assert done.text.rstrip().endswith(f"stack {env.stack}: no changes")
    with changed(env, minio={"memory_mb": 1100}):
        done = preview(env, "--expect-no-changes")
    assert done.code == 7, done.text
    assert "changes where none were expected: 1 to update" in done.text


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="a network of its own takes root and Linux"
)
def test_a_preview_needs_no_network_but_the_hosts_and_the_backends(env: Environment) -> None:
    preview(env)  # The packages of the policy pack are installed once.
    done = env.run(*OFFLINE, "scripts/preview", "--stack", env.stack, "--expect-no-changes", ok=False)
    assert done.code == 0, done.text


def test_drift_is_named_and_repaired_by_a_refresh(env: Environment) -> None:
    stopped, updated = env.name("dask-worker-1"), env.name("dask-worker-2")
    docker("stop", "--time", "5", stopped)
    docker("update", "--memory", "800m", "--memory-swap", "800m", updated)
    docker("rm", env.name("prefect-cli"))
    env.http("/work_pools/dask-pool/queues/dask-queue", method="DELETE")
    try:
        assert preview(env, "--expect-no-changes").code == 0, "without a look at the host it can't know"
        before = things(env)
        seen = preview(env, "--refresh", "--expect-no-changes")
        done = drift(env)
        assert things(env) == before
    finally:
        docker("start", stopped)
        env.apply("--refresh")
    assert (seen.code, done.code) == (7, 7)
    assert told(done)[0].startswith(f"! {stopped} does not run: Exited")
    assert told(done)[1:] == told(seen)
    for line in (
        "~ update Container dask-worker-2 (memory: 800 → 1024, memorySwap: 800 → 1024)",
        "+ create Container prefect-cli",
        "+ create WorkQueue dask-pool-dask-queue",
    ):
        assert line in told(seen)

    done = drift(env)
    assert done.code == 0, done.text
    assert done.text.rstrip().endswith(f"stack {env.stack}: no drift")
    env.smoke()


OPEN_CONTAINER = """
ports = [{"internal": 80, "external": 8080}]
docker.Container("open", image=images.worker.image_id, ports=ports, command=["serve", "--token", "abc"])
docker.Volume("scratch")
"""


def test_the_policy_pack_refuses_what_opens_the_host(env: Environment) -> None:
    """With either language host: where it is older than the CLI, the CLI starts the pack itself."""
    program = env.root / "__main__.py"
    text = program.read_text()
    program.write_text(f"import pulumi_docker as docker\n{text}{OPEN_CONTAINER}")
    try:
        refused = preview(env)
        up = env.run("scripts/up", "--stack", env.stack, "--yes", ok=False)
    finally:
        program.write_text(text)
    assert refused.code == 1, refused.text
    for words in (
        "policy: open: port 80 is published on 0.0.0.0, open to whoever reaches the host. Publish it on 127.0.0.1",
        "policy: open: it has no memory limit",
        "policy: open: its command holds a secret (--token)",
        "policy: scratch: it is not protected, so an edit may delete its data. Declare it with",
        "refused by the policy pack; 2 to create",
    ):
        assert words in refused.text
    assert up.code != 0
    assert "[mandatory]" in up.text, "an up ends at the first rule that is broken"
    there = [*docker("ps", "--all", "--format", "{{.Names}}").split(), *docker("volume", "ls", "--quiet").split()]
    assert not [name for name in there if name.startswith(("open-", "scratch-"))]
    env.apply()


@pytest.mark.skipif(
    artefact("language-python").path / "bin" in tools.directories(),
    reason="the language host here is older than the CLI and can't start a policy pack",
)
def test_plain_pulumi_runs_the_policy_pack(env: Environment) -> None:
    done = env.pulumi("preview", "--non-interactive", "--policy-pack", PACK.name)
    assert "✅ prefect-environment" in done.text


def test_a_stack_that_does_not_exist_yet_is_previewed_without_being_made(env: Environment) -> None:
    done = preview(env, stack="dev-mirror")
    assert done.code == 0, done.text
    assert "the stack dev-mirror does not exist yet" in done.text
    assert "+ create Container prefect-server" in told(done)
    stacks = json.loads(env.run("scripts/pulumi", "stack", "ls", "--json").text)
    assert [stack["name"] for stack in stacks] == [env.stack]


def test_another_program_reads_the_outputs(env: Environment, tmp_path: Path) -> None:
    program = tmp_path / "reader"
    shutil.copytree(env.root / "examples" / "stack-reference", program)

    def pulumi(*words: str) -> Done:
        done = run([str(env.root / "scripts" / "pulumi"), *words], program, env.env, timeout=120)
        assert done.code == 0, done.text
        return done

    pulumi("stack", "init", "reader")
    try:
        pulumi("config", "set", "environment", f"organization/prefect-environment/{env.stack}", "--stack", "reader")
        pulumi("up", "--yes", "--skip-preview", "--non-interactive", "--stack", "reader")
        outputs = json.loads(pulumi("stack", "output", "--json", "--stack", "reader").text)
        start = outputs["start_urls"]["greetings/test-deployment"]
        assert start.startswith(env.outputs()["prefect_api_url"])
        flow_run = env.http(start.removeprefix(env.outputs()["prefect_api_url"]), {})
        assert env.followed(flow_run["id"])["state_type"] == "COMPLETED"
        assert outputs["object_store_password"] == "[secret]"
        assert '"plaintext"' not in pulumi("stack", "export", "--stack", "reader").text
    finally:
        pulumi("stack", "rm", "--yes", "--force", "reader")


def test_a_host_that_is_away_is_named_in_one_line(env: Environment, tmp_path: Path) -> None:
    """A stack of its own: the host of one that exists can't be changed at all."""
    comment = tmp_path / "comment.md"
    (env.root / "Pulumi.away.yaml").write_text(
        "config:\n  prefect-environment:host:\n    address: ssh://nobody@127.0.0.1:1\n"
    )
    try:
        done = preview(env, "--comment", str(comment), stack="away")
    finally:
        (env.root / "Pulumi.away.yaml").unlink()
    assert done.code == 1, done.text
    [line] = [line for line in done.text.splitlines() if line.startswith("stack away: the preview failed. ")]
    assert "ssh://nobody@127.0.0.1:1: " in line
    assert line.removeprefix("stack away: ") in comment.read_text().splitlines()[0]
