"""Does a site answer? Tried for seconds: where none does, set-up goes another way."""

import urllib.error
import urllib.request

SECONDS = 4.0


def answers(url: str, *, marker: str = "") -> bool:
    """Say whether a site itself answers.

    Args:
        url: what to ask for, by GET.
        marker: name of a response header that only the site itself sends. With one, an error status counts
            as an answer when it has the header; that of a proxy in between does not.
    """
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:  # noqa: S310  (our own https addresses)
            return not marker or marker in response.headers
    except urllib.error.HTTPError as error:
        return bool(marker) and marker in error.headers
    except (OSError, ValueError):
        return False


def image_registry() -> bool:
    """Say whether Docker Hub answers (401 to a stranger, with the header that every registry sends)."""
    return answers("https://registry-1.docker.io/v2/", marker="Docker-Distribution-Api-Version")
