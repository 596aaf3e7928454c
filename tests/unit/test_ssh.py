"""The words of ssh commands, and what ssh's own words mean."""

from __future__ import annotations

import pytest

from providers.ssh import explained, forwarded, ssh_host, words

ADDRESS = "ssh://deploy@host.example.com:2222"


def test_host_keys_are_checked_whatever_the_settings_say_and_limits_can_be_raised() -> None:
    said = words(ssh_host(ADDRESS, {"ConnectTimeout": "30", "IdentityFile": "~/.ssh/deploy"}))
    given = [said[i + 1] for i, word in enumerate(said) if word == "-o"]
    assert "StrictHostKeyChecking=yes" in given
    assert "BatchMode=yes" in given
    # Of two with one name the first counts.
    assert given.index("ConnectTimeout=30") < given.index("ConnectTimeout=5")
    assert said[-4:] == ["-p", "2222", "--", "deploy@host.example.com"]


def test_numbers_and_truth_values_are_what_openssh_calls_them() -> None:
    options = ssh_host(ADDRESS, {"ConnectTimeout": 30, "IdentitiesOnly": True, "Compression": "no"})["options"]
    assert {"ConnectTimeout=30", "IdentitiesOnly=yes", "Compression=no"} <= set(options)


def test_an_address_alone_is_enough() -> None:
    assert words(ssh_host("ssh://host", {}))[-2:] == ["--", "host"]


@pytest.mark.parametrize(
    ("said", "meaning", "fix", "passing"),
    [
        ("Host key verification failed.", "not known", "ssh -p 2222 deploy@host.example.com", False),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "is not the one that is known",
            "ssh-keygen -R '[host.example.com]:2222'",
            False,
        ),
        (
            """@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @
            Offending ED25519 key in /home/me/.ssh/known_hosts:7
            Host key for [10.0.0.1]:2222 has changed and you have requested strict checking.""",
            "is not the one that is known",
            "`ssh-keygen -f /home/me/.ssh/known_hosts -R '[10.0.0.1]:2222'`",
            False,
        ),
        ("deploy@host: Permission denied (publickey).", "refused our key", "ssh-add", False),
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "may not use the Docker engine",
            "usermod -aG docker",
            False,
        ),
        ("bash: line 1: docker: command not found", "no docker command", "host-preparation", False),
        ("ssh: connect to host h port 22: Connection refused", "does not answer", "Check that it runs", True),
        ("Connection timed out during banner exchange", "does not answer", "Check that it runs", True),
        ("Timeout, server h not responding.", "does not answer", "Check that it runs", True),
    ],
)
def test_what_ssh_says_becomes_what_to_run(said: str, meaning: str, fix: str, passing: bool) -> None:
    error = explained(ssh_host(ADDRESS, {}), said)
    assert error is not None
    assert meaning in str(error)
    assert fix in str(error)
    assert ADDRESS in str(error)
    assert error.passing is passing


def test_what_to_run_has_the_options_that_settings_give_and_no_others() -> None:
    error = explained(ssh_host(ADDRESS, {"ProxyJump": "gate"}), "Permission denied (publickey).")
    assert "`ssh -o ProxyJump=gate -p 2222 deploy@host.example.com`" in str(error)


def test_words_about_other_things_have_no_meaning() -> None:
    assert explained(ssh_host(ADDRESS, {}), "Error: No such container: x") is None


def test_a_forward_to_a_port_where_nobody_listens_fails_at_once() -> None:
    with pytest.raises(Exception, match="does not answer over ssh") as caught:
        forwarded(ssh_host("ssh://nobody@127.0.0.1:1", {}), 4200)
    assert type(caught.value).__name__ == "HostError"
