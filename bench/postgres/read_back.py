"""Whether the settings that were asked for are in force, by meaning."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.postgres.connection import Connection
from bench.postgres.settings import alike


def settings_without_effect(connection: Connection, wanted: Mapping[str, str]) -> dict[str, str]:
    """Compare settings with what a session of this server begins with, by meaning: 33MB is 33792kB.

    Returns what the server has, for people, of each setting that is not as wanted.
    """
    return {
        name: _shown(connection, name) for name, value in wanted.items() if not _is_in_force(connection, name, value)
    }


def refuse_without_effect(connection: Connection, given: Mapping[str, str]) -> None:
    """Refuse a server that does not have the settings that it was started with.

    Raises:
        InfrastructureError: the message names the first of them, with what the server has instead.
    """
    for name, has in settings_without_effect(connection, given).items():
        raise InfrastructureError(
            f"--set {name}={given[name]} had no effect: the server has {has}; "
            "does the image's entrypoint pass arguments on, or does a role or database set it otherwise?"
        )


def _is_in_force(connection: Connection, name: str, wanted: str) -> bool:
    row = connection.execute(
        "SELECT reset_val, boot_val, vartype, unit, source FROM pg_settings WHERE lower(name) = lower(%s)", [name]
    ).fetchone()
    if row:
        has, default, kind, unit, source = row
        # A default like -1 has the server choose a value, which it shows instead; nobody else chose it then.
        chosen = source in {"default", "override"} and default is not None and alike(wanted, default, kind, unit)
        if chosen or alike(wanted, has or "", kind, unit):
            return True
    return _means_what_it_began_with(connection, name, wanted)


def _means_what_it_began_with(connection: Connection, name: str, wanted: str) -> bool:
    """Whether this session, if it set the setting to this, would have what it began with; False where it may not.

    The server itself knows every word for a value, and old names of settings.
    """
    try:
        # To set a name with a dot would make such a setting.
        if connection.execute("SELECT current_setting(%s, true) IS NULL", [name]).fetchone() == (True,):
            return False
        with connection.transaction(force_rollback=True):
            with_it = connection.execute("SELECT set_config(%s, %s, true)", [name, wanted]).fetchone()
            connection.execute(sql.SQL("SET LOCAL {} TO DEFAULT").format(sql.Identifier(*name.split("."))))
            without = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    except psycopg.Error:
        return False
    return with_it == without


def _shown(connection: Connection, name: str) -> str:
    try:
        row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "a value that this role may not see"
    return "no such setting" if row is None or row[0] is None else str(row[0])
