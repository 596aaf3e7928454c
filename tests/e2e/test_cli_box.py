"""The CLI box: a shell in the flows directory, as the article's `docker-compose run cli`."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from tests.e2e.environment import Environment

pytestmark = pytest.mark.xdist_group("first")

COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def typed(command: str, lines: list[str], seconds: float = 180) -> str:
    """What a terminal shows when `lines` are typed into `command`."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(command.split(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, "".join(f"{line}\n" for line in lines).encode())
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # The other end is closed: the shell has ended.
    finally:
        shell.wait(seconds)
        os.close(ours)
    return COLOUR.sub("", shown.decode())


@pytest.fixture(scope="module", name="shown")
def _shown(first_up: object) -> str:
    env: Environment = first_up.env  # type: ignore[attr-defined]
    return typed(
        env.outputs()["cli_command"],
        [
            "pwd",
            "cd greetings",
            "python dask_flow.py && echo the-flow-ended-well",
            "prefect --no-prompt deploy --all && echo the-deploy-ended-well",
            "exit",
        ],
    )


def test_it_opens_in_the_flows_directory(shown: str) -> None:
    assert "/root/flows" in shown


def test_a_flow_runs_on_dask_from_it(shown: str) -> None:
    """What tasks print is on the Dask workers' side and in the API's logs, not in this shell."""
    assert "Finished in state Completed()" in shown
    assert "\nthe-flow-ended-well" in shown


def test_prefect_deploy_uploads_and_registers(shown: str, env: Environment) -> None:
    assert "\nthe-deploy-ended-well" in shown
    env.smoke("--deployment", "greetings/cli-deployment")


def test_it_changes_nothing_for_pulumi(shown: str, env: Environment) -> None:
    assert shown
    env.apply()
    env.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")
