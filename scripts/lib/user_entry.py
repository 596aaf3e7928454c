"""What a user's entry in the settings must be, with the models and the hash function of .venv, which runs this.

Reads a JSON object with `name`, `password` and the other fields of `settings.auth.UserSettings`, and prints the hash of
the password; exits with 1 and says what is wrong where the settings would be refused.
"""

import json
import sys

from argon2 import PasswordHasher
from pydantic import TypeAdapter, ValidationError

from settings.auth import UserName, UserSettings

# Each log-in takes that much of `auth.memory_mb`, in KiB, so the leanest that OWASP recommends
# (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


def main() -> int:
    """Check and hash."""
    fields = json.load(sys.stdin)
    name, password = fields.pop("name"), fields.pop("password")
    hashed = HASHER.hash(password)
    try:
        TypeAdapter(UserName).validate_python(name)
        UserSettings.model_validate({**fields, "password_hash": hashed})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            where = ".".join(map(str, problem["loc"])) or "the name"
            print(f"{where}: {problem['msg']}", file=sys.stderr)
        return 1
    print(hashed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
