"""The user's credentials for registries, as the docker command keeps them in its config.json.

Docker's client asks every helper when it builds, waits for one without end, and raises errors of any kind. Here
credentials are looked up for the one registry that is asked, at that moment. When they cannot be had, the registry is
asked without: most images are public, or here already.
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
_TOKEN = "<token>"  # noqa: S105 - what a helper says in place of a name


class Credentials(AuthConfig):
    """What a config.json says of registries, in the form that Docker's client asks."""

    def __init__(self, config: Path) -> None:
        """A file that is not there or is broken holds no credentials."""
        self.configuration: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            found = json.loads(config.read_text(encoding="utf-8"))
            self.configuration = found if isinstance(found, dict) else {}
        self.complaint = ""
        """Why the credentials that were asked for last could not be had, to be put behind a sentence; else nothing."""
        self._config = config
        super().__init__({"auths": {}})

    def rest(self) -> dict[str, Any]:
        """What the file says of anything else."""
        return {key: value for key, value in self.configuration.items() if key not in _KEYS}

    @property
    def is_empty(self) -> bool:
        """Never, or Docker's client would load the file itself."""
        return False

    def get_all_credentials(self) -> dict[str, Any]:
        """None: what a build begins from is there before it."""
        return {}

    def resolve_authconfig(self, registry: str | None = None) -> dict[str, Any] | None:
        """The credentials for a registry; None when there are none or they cannot be had (`complaint`)."""
        self.complaint = ""
        try:
            return self._resolved(registry)
        except Exception as error:  # noqa: BLE001 - a file that anybody may have written
            self.complaint = f" (the credentials that {self._config} has for it cannot be used: {error})"
            return None

    def _resolved(self, registry: str | None) -> dict[str, Any] | None:
        wanted = AuthConfig({key: self.configuration[key] for key in _KEYS if self.configuration.get(key)})
        helper = wanted.get_credential_store(registry)
        if helper and (found := _from_helper(str(helper), registry or "https://index.docker.io/v1/")):
            return found
        kept = AuthConfig({"auths": wanted.auths}).resolve_authconfig(registry)
        if not kept or not isinstance(kept, dict):
            return None
        name = next(key for key, value in wanted.auths.items() if value is kept)
        parsed: dict[str, Any] = AuthConfig.parse_auth({name: kept}, raise_on_error=True)[name]
        return parsed


def _from_helper(name: str, registry: str) -> dict[str, Any] | None:
    """What a credential helper has for a registry; None when it has nothing.

    Raises:
        ValueError: it did not answer as a helper has to.
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
        said = (ran.stdout + ran.stderr).strip()
        raise ValueError(f"{program} ended with exit code {ran.returncode}: {said[-200:] or 'it said nothing'}")
    try:
        found = json.loads(ran.stdout)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{program} printed no credentials") from None
    return (
        {"IdentityToken": secret} if user == _TOKEN else {"Username": user, "Password": secret, "ServerAddress": server}
    )
