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
    """Take a connection string apart into libpq's environment variables and the password.

    Options that the string leaves out come from our own environment, as they would for psql.

    Raises:
        UsageError: an option has no environment variable, so that it cannot be passed on to workers.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    environment: dict[str, str] = {}
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
            environment[variable] = value
        else:
            raise UsageError(f"--dsn: {keyword} cannot be passed on to the workers; leave it out")
    return environment, password


def refuse_for_containers(dsn: str) -> None:
    """Refuse a connection string that means something else, or nothing, inside a container.

    Raises:
        UsageError: the string names a file of this machine or leads to a unix socket.
    """
    given = conninfo_to_dict(dsn)
    for name in _FILES:
        if given.get(name):
            raise UsageError(f"--dsn: {name} names a file that containers do not see; use --place local")
    if any(not host or host.startswith(("/", "@")) for host in _hosts(dsn)):
        raise UsageError("--dsn: containers do not reach a unix socket; name a host, or use --place local")


def names_this_machine(dsn: str) -> bool:
    """Whether a connection string names a host by which each machine means itself, like localhost or 127.0.0.1."""
    for host in _hosts(dsn):
        with suppress(ValueError):  # a name
            if ip_address(host).is_loopback:
                return True
    return "localhost" in _hosts(dsn)


def _hosts(dsn: str) -> list[str]:
    """Return the hosts that libpq tries in order; "" is its default, a unix socket. hostaddr goes before host."""
    given = conninfo_to_dict(dsn)
    named = given.get("hostaddr") or os.environ.get("PGHOSTADDR") or given.get("host") or os.environ.get("PGHOST") or ""
    return str(named).split(",")


def pgpass(password: str) -> str:
    """Return the content of a libpq password file with one password for all servers."""
    return "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"


def with_password(dsn: str, password: str | None) -> str:
    """Return the connection string with the password added; unchanged when that is None."""
    return dsn if password is None else make_conninfo(dsn, password=password)


def without_password(dsn: str) -> str:
    """Return the connection string without its passwords, to be shown and stored."""
    options = {name: value for name, value in conninfo_to_dict(dsn).items() if name not in {"password", "sslpassword"}}
    return make_conninfo("", **options)
