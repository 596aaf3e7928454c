"""A second engineer: another clone and another home, the team's state in an object store, no change to be made."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.environment import Environment, clone
from tests.integration.conftest import ROOT, running_minio

pytestmark = pytest.mark.xdist_group("first")


@dataclass
class Team(Environment):
    """An environment whose state is the team's."""

    shared: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, **self.shared}


@pytest.fixture(name="shared")
def _shared(env: Environment, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What each engineer exports: the team's backend, on a MinIO that is no stack's own, and the passphrase's file."""
    (tmp_path / "store").mkdir()
    password = secrets.token_hex(16)
    with running_minio(tmp_path / "store", password) as store:
        store.s3.make_bucket("states")
        endpoint = f"http://127.0.0.1:{store.port}"
        yield {
            "PULUMI_BACKEND_URL": f"s3://states?region=us-east-1&use_path_style=true&endpoint={endpoint}",
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": password,
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(env.home / "prefect-environment" / "passphrase"),
        }


def test_a_second_laptop_reaches_a_preview_without_changes(
    env: Environment, shared: dict[str, str], tmp_path: Path
) -> None:
    # The first engineer moves the state to the team, as docs/join.md says, and commits what that wrote.
    first = Team(env.root, env.stack, env.home, dict(env.settings), shared=shared)
    settings = env.root / f"Pulumi.{env.stack}.yaml"
    before = settings.read_text()
    state = tmp_path / "state.json"
    env.pulumi("stack", "export", "--file", str(state))
    try:
        # On a local engine the CLI box has a directory of this very machine: the two clones agree on one.
        first.write_settings(cli={"flows_directory": str(env.root / "flows")})
        first.run("scripts/pulumi", "stack", "init", env.stack)
        first.pulumi("stack", "import", "--file", str(state))
        committed = settings.read_text()
        assert "encryptionsalt: " in committed

        # The second engineer has a clone, a home and what the team tells.
        second = Team(tmp_path / "clone", env.stack, tmp_path / "home", shared=shared)
        clone(second.root)
        second.home.mkdir()
        (second.root / settings.name).write_text(committed)
        done = second.run("scripts/preview", "--stack", env.stack, "--expect-no-changes", ok=False)
        assert done.code == 0, done.text
        assert "no changes" in done.text
        assert second.outputs() == env.outputs()
        assert not (second.home / "prefect-environment" / "passphrase").exists(), "it uses the team's"

        # A workflow does as she does, through scripts/ci.
        passphrase = Path(shared["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text()
        alone = {key: value for key, value in shared.items() if "PASSPHRASE" not in key}
        robot = dataclasses.replace(second, shared={**alone, "PULUMI_CONFIG_PASSPHRASE": passphrase})
        robot.run("scripts/ci", "preview", "--comment", "comment.md", "--stack", env.stack)
        assert (robot.root / "comment.md").read_text() == f"### Stack `{env.stack}`: no changes\n"

        # With another passphrase nothing is done, and nothing is written.
        stranger = dataclasses.replace(second, shared={**shared, "PULUMI_CONFIG_PASSPHRASE_FILE": str(wrong(tmp_path))})
        refused = stranger.run("scripts/preview", "--stack", env.stack, ok=False)
        assert refused.code != 0
        assert "incorrect passphrase" in refused.text
    finally:
        settings.write_text(before)


def wrong(directory: Path) -> Path:
    file = directory / "wrong"
    file.write_text("not the team's")
    return file


def test_the_page_takes_ten_lines() -> None:
    """The commands that the page gives a second engineer are those of the test above."""
    page = (Path(__file__).parents[2] / "docs" / "join.md").read_text()
    lines = page.partition("## Join")[2].partition("```console\n")[2].partition("```")[0].splitlines()
    assert 0 < len(lines) <= 10
    assert lines[-1].startswith("$ scripts/preview --stack ")
    assert lines[-1].endswith("--expect-no-changes")
