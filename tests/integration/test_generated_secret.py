"""GeneratedSecret under the engine's calls; it has no server."""

from __future__ import annotations

import re

import pytest

from providers.generated_secret import GeneratedSecretProvider
from tests.integration.harness import CheckError, Engine, Props


def value(engine: Engine) -> str:
    assert engine.state is not None
    made: str = engine.state.outputs["value"]
    return made


def program(**changes: object) -> Props:
    return {"length": 32, "version": 1} | changes


def test_it_is_made_once() -> None:
    engine = Engine(GeneratedSecretProvider())
    assert engine.up(program()) == "create"
    made = value(engine)
    assert re.fullmatch(r"[A-Za-z0-9]{32}", made)
    assert engine.up(program()) == "same"
    assert engine.refresh() == "same"
    assert engine.up(program()) == "same"
    assert value(engine) == made
    engine.destroy()


def test_no_two_are_alike() -> None:
    engines = [Engine(GeneratedSecretProvider()) for _ in range(20)]
    for engine in engines:
        engine.up(program())
    assert len({value(engine) for engine in engines}) == 20


@pytest.mark.parametrize("change", [{"version": 2}, {"length": 40}])
def test_a_change_makes_a_new_one_in_place(change: Props) -> None:
    # In place, because what opens data is protected, and the engine replaces nothing that is.
    engine = Engine(GeneratedSecretProvider())
    engine.up(program())
    made = value(engine)
    assert engine.diff(program(**change)) == (True, [], False)
    assert engine.up(program(**change)) == "update"
    assert value(engine) != made
    assert len(value(engine)) == change.get("length", 32)
    assert engine.up(program(**change)) == "same"


@pytest.mark.parametrize("length", [8, 15, 129, 32.5, "32"])
def test_lengths_that_can_be_guessed_or_used_nowhere_are_refused(length: object) -> None:
    with pytest.raises(CheckError, match=r"^length: must be a whole number from 16 to 128"):
        Engine(GeneratedSecretProvider()).up(program(length=length))
