"""The user's credentials for registries, as the docker command stores them in its config.json.

Docker's client asks every helper when it builds, waits for a helper without limit, and raises errors of any kind. Here
credentials are looked up for one registry, when that registry is asked. If the lookup fails, the registry is asked
without credentials: most images are public, or on the engine already.
"""

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.auth import AuthConfig

HELPER_SECONDS = 20
_KEYS = ("auths", "credsStore", "credHelpers")
_TOKEN = "<token>"  # noqa: S105 - a helper's user name when the secret is a token


class Credentials(AuthConfig):
    """The credentials of a config.json, in the form that Docker's client asks for them."""

    def __init__(self, config: Path) -> None:
        """A file that is missing or broken holds no credentials."""
        self.configuration: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            value = json.loads(config.read_text(encoding="utf-8"))
            self.configuration = value if isinstance(value, dict) else {}
        self.complaint = ""
        """Why the last lookup failed, to follow a sentence; "" when it did not."""
        self._config = config
        super().__init__({"auths": {}})

    def rest(self) -> dict[str, Any]:
        """Return the file's content without credentials."""
        return {key: value for key, value in self.configuration.items() if key not in _KEYS}

    @property
    def is_empty(self) -> bool:
        """Return False, or Docker's client would load the file itself."""
        return False

    def get_all_credentials(self) -> dict[str, Any]:
        """Return no credentials: a build needs none, because its base image is on the engine before."""
        return {}

    def resolve_authconfig(self, registry: str | None = None) -> dict[str, Any] | None:
        """Return the credentials for a registry; None when there are none or the lookup failed (`complaint`)."""
        self.complaint = ""
        try:
            return self._resolved(registry)
        except Exception as error:  # noqa: BLE001 - a file that anybody may have written
            self.complaint = f" (the credentials that {self._config} has for it cannot be used: {error})"
            return None

    def _resolved(self, registry: str | None) -> dict[str, Any] | None:
        configured = AuthConfig({key: self.configuration[key] for key in _KEYS if self.configuration.get(key)})
        helper = configured.get_credential_store(registry)
        if helper and (credentials := _from_helper(str(helper), registry or "https://index.docker.io/v1/")):
            return credentials
        stored = AuthConfig({"auths": configured.auths}).resolve_authconfig(registry)
        if not stored or not isinstance(stored, dict):
            return None
        name = next(key for key, value in configured.auths.items() if value is stored)
        parsed: dict[str, Any] = AuthConfig.parse_auth({name: stored}, raise_on_error=True)[name]
        return parsed


def _from_helper(name: str, registry: str) -> dict[str, Any] | None:
    """Ask a credential helper for a registry's credentials; None when it has none.

    Raises:
        ValueError: the helper failed, or did not follow the helpers' protocol.
    """
    program = f"docker-credential-{name}"
    if shutil.which(program) is None:
        raise ValueError(f"there is no program {program} on the PATH, which credsStore or credHelpers names")
    server = "https://index.docker.io/v1/" if registry == "docker.io" else registry
    try:
        ran = subprocess.run(
            [program, "get"], input=server, capture_output=True, text=True, timeout=HELPER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{program} did not answer within {HELPER_SECONDS} s") from None
    except OSError as error:
        raise ValueError(f"{program} cannot be run: {error.strerror}") from error
    if ran.returncode:
        if "credentials not found" in ran.stdout.lower():
            return None
        output = (ran.stdout + ran.stderr).strip()
        raise ValueError(f"{program} ended with exit code {ran.returncode}: {output[-200:] or 'it printed nothing'}")
    try:
        answer = json.loads(ran.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{program} printed no credentials") from None
    return (
        {"IdentityToken": secret} if user == _TOKEN else {"Username": user, "Password": secret, "ServerAddress": server}
    )
