"""A Postgres that the user already has, named by a connection string or URL."""

import os
from contextlib import suppress
from ipaddress import ip_address

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.errors import UsageError
from bench.places.api import Database

_FILES = ("service", "passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")


def existing_database(dsn: str) -> Database:
    """Return the Postgres that a connection string names; nothing connects to it here.

    Raises:
        UsageError: as of `variables`.
    """
    named, password = variables(dsn)
    return Database(with_password(dsn, password), named, password, dsn)


def variables(dsn: str) -> tuple[dict[str, str], str | None]:
    """Take a connection string apart: libpq's environment variables for it, and its password.

    What it leaves out comes from our own environment, as it would for psql.

    Raises:
        UsageError: it uses an option that has no variable, so that workers could not be told.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    found: dict[str, str] = {}
    password = None
    for option in pq.Conninfo.get_defaults():
        keyword = option.keyword.decode()
        variable = option.envvar.decode() if option.envvar else ""
        value = given.pop(keyword, None) or os.environ.get(variable)
        if not value:
            continue
        if keyword == "password":
            password = value
        elif variable:
            found[variable] = value
        else:
            raise UsageError(f"--dsn: {keyword} cannot be passed on to the workers: leave it out")
    return found, password


def refuse_for_containers(dsn: str) -> None:
    """Refuse a connection string that means something else, or nothing, inside a container."""
    given = conninfo_to_dict(dsn)
    for name in _FILES:
        if given.get(name):
            raise UsageError(f"--dsn: {name} names a file that containers do not see: use --place local")
    if any(not host or host.startswith(("/", "@")) for host in _hosts(dsn)):
        raise UsageError("--dsn: containers do not reach a unix socket: name a host, or use --place local")


def names_this_machine(dsn: str) -> bool:
    """Whether it names a host by which every machine means itself, like localhost or 127.0.0.1."""
    for host in _hosts(dsn):
        with suppress(ValueError):  # a name
            if ip_address(host).is_loopback:
                return True
    return "localhost" in _hosts(dsn)


def _hosts(dsn: str) -> list[str]:
    """Where libpq connects to, one after the other; an empty text is its default, a unix socket. Addresses go first."""
    given = conninfo_to_dict(dsn)
    named = given.get("hostaddr") or os.environ.get("PGHOSTADDR") or given.get("host") or os.environ.get("PGHOST") or ""
    return str(named).split(",")


def pgpass(password: str) -> str:
    """A password file for libpq that fits every server; it escapes what libpq wants escaped."""
    return "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"


def with_password(dsn: str, password: str | None) -> str:
    """The same connection string with the password in it, wherever that came from."""
    return dsn if password is None else make_conninfo(dsn, password=password)


def without_password(dsn: str) -> str:
    """The same connection string, fit to be shown and stored."""
    given = {name: value for name, value in conninfo_to_dict(dsn).items() if name not in {"password", "sslpassword"}}
    return make_conninfo("", **given)
