"""trust.py ROOT: let the root filesystem at ROOT trust what this machine trusts.

Image builds on a network whose proxy signs TLS anew need its certificate authority; the bundle that this
machine's own tools use has it. Only what Debian's bundle lacks is added, as local certificates:
update-ca-certificates keeps them when an image runs it again.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
LOCAL = "usr/local/share/ca-certificates"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def certificates(bundle: Path) -> set[str]:
    """Return the PEM blocks of a bundle; none where there is no such file, as on a Mac."""
    return set(CERTIFICATE.findall(bundle.read_text())) if bundle.is_file() else set()


def main(root: Path) -> None:
    """Add the machine's own authorities to the root filesystem."""
    ours = certificates(Path(os.environ.get("SSL_CERT_FILE") or f"/{BUNDLE}"))
    for number, certificate in enumerate(sorted(ours - certificates(root / BUNDLE))):
        (root / LOCAL / f"machine-{number:03}.crt").write_text(certificate + "\n")
    subprocess.run(["chroot", root, "update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
