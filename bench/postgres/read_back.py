"""Checks that the requested settings are in force, by meaning and not by spelling."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.postgres.connection import Connection, scalar
from bench.postgres.settings import alike


def settings_without_effect(connection: Connection, wanted: Mapping[str, str]) -> dict[str, str]:
    """Compare settings with the values that a session of this server begins with, by meaning: 33MB is 33792kB.

    Returns the server's value, as text for people, of each setting that differs from the wanted value.
    """
    return {
        name: _shown(connection, name) for name, value in wanted.items() if not _is_in_force(connection, name, value)
    }


def refuse_without_effect(connection: Connection, given: Mapping[str, str]) -> None:
    """Refuse a server that does not have the settings that it was started with.

    Raises:
        InfrastructureError: a setting had no effect; the message has its name and the server's value.
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
        # A default like -1 has the server choose a value, which it shows instead; the source tells that it chose.
        chosen = source in {"default", "override"} and default is not None and alike(wanted, default, kind, unit)
        if chosen or alike(wanted, has or "", kind, unit):
            return True
    return _changes_nothing(connection, name, wanted)


def _changes_nothing(connection: Connection, name: str, wanted: str) -> bool:
    """Whether setting this value would leave this session with the value that it began with; False where it may not set
    it.

    The server itself knows every spelling of a value, and old names of settings.
    """
    try:
        # Setting an unknown name with a dot in it would create the setting.
        if scalar(connection, "SELECT current_setting(%s, true) IS NULL", [name]):
            return False
        with connection.transaction(force_rollback=True):
            as_wanted = scalar(connection, "SELECT set_config(%s, %s, true)", [name, wanted])
            connection.execute(sql.SQL("SET LOCAL {} TO DEFAULT").format(sql.Identifier(*name.split("."))))
            at_first = scalar(connection, "SELECT current_setting(%s)", [name])
    except psycopg.Error:
        return False
    return bool(as_wanted == at_first)


def _shown(connection: Connection, name: str) -> str:
    try:
        value = scalar(connection, "SELECT current_setting(%s, true)", [name])
    except psycopg.errors.InsufficientPrivilege:
        return "a value that this role may not see"
    return "no such setting" if value is None else str(value)
