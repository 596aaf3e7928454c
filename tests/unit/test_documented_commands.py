"""Each command of the docs is run by a test: found by its words, or named here with the test that runs it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
METHODS: Final = {
    "up": ["scripts/up"],
    "down": ["scripts/down"],
    "smoke": ["scripts/smoke"],
    "pulumi": ["scripts/pulumi"],
    "apply": ["scripts/pulumi", "up"],
}
"""What the methods of tests.e2e.environment.Environment run."""
ANY_STACK: Final = {"--stack", "--fix"}
"""Options that every test gives otherwise, or none."""
RUN_BY: Final = {
    "scripts/user": "test_users_come_and_go_in_the_settings_file",
    "pulumi cancel": "test_plain_pulumi_gets_over_an_up_that_was_killed",
    "pulumi up --refresh": "test_plain_pulumi_gets_over_an_up_that_was_killed",
    "docker exec prefect-postgres sh -c 'pg_dump": "test_the_database_of_prefect_2_7_moves_in",
    "docker stop prefect-environment-NAME-prefect-server": "test_the_database_of_prefect_2_7_moves_in",
    "docker exec prefect-environment-NAME-postgres": "test_the_database_of_prefect_2_7_moves_in",
    "docker exec -i prefect-environment-NAME-postgres": "test_the_database_of_prefect_2_7_moves_in",
    "docker start prefect-environment-NAME-prefect-server": "test_the_database_of_prefect_2_7_moves_in",
    "restic -r /mnt/backup dump latest": "test_one_by_hand_says_what_it_saved",
    "(umask 077; scripts/pulumi stack output caddyfile": "test_the_routes_are_an_output_for_those_who_put_them_there",
    "docker exec caddy caddy reload": "test_the_routes_are_an_output_for_those_who_put_them_there_by_hand",
    'export PREFECT_API_URL="$(scripts/pulumi stack output': "test_smoke_through_the_front_door",
    'export PREFECT_API_AUTH_STRING="$(scripts/pulumi stack': "test_smoke_through_the_front_door",
    "prefect deployment run greetings/test-deployment": "test_prefects_client_hears_events_and_logs",
    "git clone <this repository>": "test_a_second_laptop_reaches_a_preview_without_changes",
    "export PULUMI_BACKEND_URL=": "test_a_second_laptop_reaches_a_preview_without_changes",
    "export PULUMI_CONFIG_PASSPHRASE_FILE=": "test_a_second_laptop_reaches_a_preview_without_changes",
    "install -m 600 /dev/stdin": "test_a_second_laptop_reaches_a_preview_without_changes",
    "git add Pulumi.prod.yaml": "test_a_second_laptop_reaches_a_preview_without_changes",
    "cp Pulumi.prod.yaml": "test_it_moves_there_as_another_stack_and_each_goes_alone",
    "docker exec prefect-environment-dev-authelia cat /data/notif": "test_a_second_factor_is_enrolled_by_a_link",
    "A='docker exec prefect-environment-dev-authelia": "test_a_lost_second_factor_is_deleted_and_another_enrolled",
    "$A storage user": "test_a_lost_second_factor_is_deleted_and_another_enrolled",
    "ssh-keyscan": "test_a_changed_host_key_is_an_error_and_what_it_says_to_run_helps",
    "ssh -o UserKnownHostsFile=known_hosts": "test_staging_comes_up_over_ssh",
}
"""Begin of a command to the test that runs it in other words."""
NOT_RUN: Final = {
    "scripts/setup --dev": "what a run of the tests begins with",
    "scripts/test": "what runs them",
    "scripts/lint": "what runs before them",
    "python3 -m venv .venv && .venv/bin/pip install --no-deps": "what scripts/setup runs",
    "docker stop prefect-orion": "of another project's containers",
    "docker exec prefect-environment-dev-authelia authelia --config": "of Authelia 4.39, which is in no Go module",
}
"""Begin of a command to why none does."""


def documented() -> Iterator[tuple[str, str]]:
    """Place and text of each command that the docs give."""
    for page in sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]):
        inside = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                inside = not inside
            elif inside and line.startswith("$ "):
                yield f"{page.name}:{number}", line.removeprefix("$ ")


@cache
def called() -> list[set[str]]:
    """The words of each call, list and tuple in tests of real parts."""
    found = []
    for file in [*ROOT.glob("tests/e2e/*.py"), *ROOT.glob("tests/integration/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                of = METHODS.get(node.func.attr, []) if isinstance(node.func, ast.Attribute) else []
                found.append({*of, *_words(node.args)})
            elif isinstance(node, ast.List | ast.Tuple):
                found.append(_words(node.elts))
    return found


@cache
def all_tests() -> str:
    """All of them."""
    return "".join(file.read_text() for file in ROOT.glob("tests/*/*.py"))


def _words(nodes: list[ast.expr]) -> set[str]:
    return {each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def essential(command: str) -> set[str]:
    """The words that make a command of scripts/ what it is: its name, its options, and Pulumi's own command."""
    words = shlex.split(command.replace("[", "").replace("]", ""), comments=True)
    words = words[: words.index("--")] if "--" in words else words
    options = {word for word in words if word.startswith("-")} - ANY_STACK
    own = re.match(r"scripts/pulumi ([a-z]+ ?(?:set|init|export|import|output)?)", command)
    return {words[0], *options, *(own.group(1).split() if own else [])}


@pytest.mark.parametrize(("place", "command"), list(documented()))
def test_each_command_is_run(place: str, command: str) -> None:
    if any(command.startswith(begin) for begin in NOT_RUN):
        return
    named = [test for begin, test in RUN_BY.items() if command.startswith(begin)]
    if named:
        assert f"def {named[0]}" in all_tests(), f"{place}: {named[0]} is no more"
        return
    assert command.startswith("scripts/"), f"{place}: name the test that runs `{command}`, in RUN_BY"
    assert any(essential(command) <= words for words in called()), f"{place}: no test runs `{command}`"


@pytest.mark.parametrize("begin", [*RUN_BY, *NOT_RUN])
def test_what_is_named_here_is_documented(begin: str) -> None:
    assert any(command.startswith(begin) for _, command in documented())
