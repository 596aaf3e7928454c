"""Another address of a host: refused, unless it is said to be the same engine's."""

from __future__ import annotations

from collections.abc import Mapping

from providers.host_contract import HostContractProvider

OLD = {"terms": {"host.address": "ssh://old"}, "setting": "host", "formerly": {}}


def failures(news: Mapping[str, object]) -> list[str]:
    return [failure.reason for failure in HostContractProvider().check(dict(OLD), {**OLD, **news}).failures]


def test_the_same_address_is_fine() -> None:
    assert failures({}) == []


def test_another_address_is_refused_with_what_would_stay_behind_and_the_ways_out() -> None:
    [reason] = failures({"terms": {"host.address": "ssh://new"}})
    assert "host.address from ssh://old to ssh://new" in reason
    assert "stay behind" in reason
    assert "Set host.address back" in reason
    assert "host.formerly" in reason


def test_the_same_engine_may_have_another_address() -> None:
    new = {"terms": {"host.address": "ssh://new"}, "formerly": {"host.address": "ssh://old"}}
    assert failures(new) == []
    assert HostContractProvider().diff("host", dict(OLD), {**OLD, **new}).changes is True
    kept = HostContractProvider().update("host", dict(OLD), {**OLD, **new}).outs
    assert kept == {**OLD, **new}


def test_the_former_address_of_another_move_does_not_count() -> None:
    assert failures({"terms": {"host.address": "ssh://new"}, "formerly": {"host.address": "ssh://older"}})
