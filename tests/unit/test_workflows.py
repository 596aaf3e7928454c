"""Workflows: what they may do, what they call, and the one script through which they do it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.lib.deploy_flow import NEEDED
from tests.unit.recorder import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OWN_REPOSITORY = "github.event.pull_request.head.repo.full_name == github.repository"


def content(file: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(file.read_text())
    return loaded


def jobs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in WORKFLOWS:
        for name, job in content(file)["jobs"].items():
            yield f"{file.name}: {name}", job


def test_the_workflows_are_those_that_the_docs_name() -> None:
    assert [file.stem for file in WORKFLOWS] == ["ci", "deploy-flows", "deploy", "drift", "on-stack", "preview"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_with_their_version_behind(file: Path) -> None:
    for used in re.findall(r"uses: (.+)", file.read_text()):
        assert used.startswith("./.github/") or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), (
            used
        )


def test_every_job_says_what_it_may_and_ends() -> None:
    for file in WORKFLOWS:
        assert content(file)["permissions"] == {}, file.name
        # YAML reads the key `on` as true.
        assert "pull_request_target" not in (content(file)[True] or {}), f"{file.name} would run a fork with secrets"
    for name, job in jobs():
        assert set(job["permissions"]) <= {"contents", "pull-requests"}, name
        assert job["permissions"].get("contents", "read") == "read", name
        assert "uses" in job or job["timeout-minutes"] <= 90, name


def test_nothing_of_a_pull_request_is_pasted_into_a_shell() -> None:
    for name, job in jobs():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), f"{name}: use env"


def test_a_fork_gets_no_secrets_and_hears_why() -> None:
    preview = content(ROOT / ".github/workflows/preview.yml")["jobs"]
    assert preview["preview"]["if"] == OWN_REPOSITORY
    assert OWN_REPOSITORY in preview["comment"]["if"]
    assert preview["fork"]["if"] == OWN_REPOSITORY.replace("==", "!=")
    assert "No preview of a fork" in preview["fork"]["steps"][0]["run"]


def test_only_the_job_that_runs_no_code_of_the_pull_request_may_write() -> None:
    writers = {name: job for name, job in jobs() if "write" in job["permissions"].values()}
    assert list(writers) == ["preview.yml: comment"]
    assert not any("checkout" in step.get("uses", "") for step in writers["preview.yml: comment"]["steps"])


def test_one_environment_after_the_other_is_deployed_and_every_one_is_previewed() -> None:
    deploy = content(ROOT / ".github/workflows/deploy.yml")
    assert deploy["concurrency"] == {"group": "deploy", "cancel-in-progress": False}
    assert deploy["jobs"]["prod"]["needs"] == "staging"
    deployed = [job["with"]["stack"] for job in deploy["jobs"].values()]
    for name in ("preview", "drift"):
        job = content(ROOT / f".github/workflows/{name}.yml")["jobs"][name]
        assert job["strategy"]["matrix"]["stack"] == deployed
    for stack in deployed:
        assert (ROOT / f"Pulumi.{stack}.yaml").is_file()


def test_what_workflows_call_is_there_with_the_options_they_give() -> None:
    called = [job["with"]["command"].split() for _, job in jobs() if "with" in job]
    assert {script for script, *_ in called} == {"preview", "up", "drift"}
    for script, *options in called:
        told = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=True).stdout
        for option in ["--stack", *(word for word in options if word.startswith("--"))]:
            assert option in told, f"scripts/{script} {option}"


def test_flows_are_deployed_with_what_their_script_needs_and_no_more() -> None:
    workflow = content(ROOT / ".github/workflows/deploy-flows.yml")
    [job] = workflow["jobs"].values()
    install, deploy = (step for step in job["steps"] if "run" in step)
    # Without --no-deps pip refuses the lock: extras such as sqlalchemy's bring requirements without a version.
    packages = "--no-deps --require-hashes -r requirements.txt"
    for told in (
        install["run"],
        *((ROOT / name).read_text() for name in ("docs/deploy-flows.md", "scripts/deploy-flow")),
    ):
        assert packages in told
    assert set(deploy["env"]) == {"FLOWS", *NEEDED}
    text = (ROOT / ".github/workflows/deploy-flows.yml").read_text()
    secrets = {"PREFECT_API_AUTH_STRING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert set(re.findall(r"secrets\.(\w+)", text)) == secrets
    assert set(re.findall(r"vars\.(\w+)", text)) == NEEDED.keys() - secrets


def test_the_workflow_in_the_docs_calls_it() -> None:
    [example] = re.findall(r"```yaml\n(name: .*?)```", (ROOT / "docs/deploy-flows.md").read_text(), re.DOTALL)
    [job] = yaml.safe_load(example)["jobs"].values()
    called = content(ROOT / job["uses"])[True]["workflow_call"]["inputs"]
    assert job["with"].keys() == {name for name, given in called.items() if given["required"]}


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Path:
    scripts = tmp_path / "clone" / "scripts"
    scripts.mkdir(parents=True)
    shutil.copy2(ROOT / "scripts" / "ci", scripts)
    probe = scripts / "probe"
    probe.write_text(
        '#!/bin/sh\necho "args: $*"\nssh-add -l\n'
        'echo "key: ${SSH_PRIVATE_KEY-}"\necho "agent: ${SSH_AGENT_PID-}"\nexit 7\n'
    )
    probe.chmod(0o755)
    return tmp_path / "clone"


def ci(clone: Path, **env: str) -> subprocess.CompletedProcess[str]:
    home = {"PATH": os.environ["PATH"], "HOME": str(clone), "TMPDIR": str(clone)}
    return subprocess.run(
        ["scripts/ci", "probe", "--stack", "a b"], cwd=clone, env={**home, **env}, text=True, timeout=30, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


STATE = {"PULUMI_BACKEND_URL": "s3://states", "PULUMI_CONFIG_PASSPHRASE": "x"}


@pytest.mark.parametrize("name", STATE)
def test_ci_refuses_to_keep_state_on_a_machine_that_is_gone_tomorrow(clone: Path, name: str) -> None:
    refused = ci(clone, **{**STATE, name: ""})
    assert refused.returncode == 1
    assert f"{name} is not set" in refused.stdout
    assert "docs/pull-requests.md" in refused.stdout
    assert "args:" not in refused.stdout


def test_ci_runs_the_script_as_it_is_where_there_is_no_key(clone: Path) -> None:
    done = ci(clone, **STATE)
    assert done.returncode == 7
    assert "args: --stack a b" in done.stdout


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="needs OpenSSH's client")
def test_ci_keeps_the_key_in_an_agent_that_ends_with_the_script(clone: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "of-the-test", "-f", key], check=True)
    done = ci(clone, **STATE, SSH_PRIVATE_KEY=key.read_text())
    assert done.returncode == 7
    assert "of-the-test (ED25519)" in done.stdout
    assert "key: \n" in done.stdout, "the script itself does not get it"
    agent = int(re.search(r"agent: (\d+)", done.stdout)[1])  # type: ignore[index]
    end = time.monotonic() + 20
    while Path(f"/proc/{agent}").exists() and time.monotonic() < end:
        time.sleep(0.5)  # An agent looks for its parent every ten seconds.
    assert not Path(f"/proc/{agent}").exists()
    secret = key.read_text().splitlines()[1]
    assert not [file for file in clone.rglob("*") if file.is_file() and secret in file.read_text()]
