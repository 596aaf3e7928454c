"""What the scripts share. Standard library only: they run before anything is installed."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (this is what tells)
    sys.exit(
        "Python 3.11 or newer is needed, this is %d.%d (%s).\n"  # noqa: UP031  (older versions read this line)
        "  Debian 12, Ubuntu 24.04, WSL2: apt-get install python3 python3-venv\n"
        "  macOS: brew install python" % (*sys.version_info[:2], sys.executable)
    )
