"""The meaning of settings' values, compared with a real server's reading of them."""

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import InfrastructureError
from bench.postgres.connection import Connection, connected
from bench.postgres.read_back import refuse_without_effect, settings_without_effect
from bench.postgres.settings import alike

NUMBERS = st.one_of(
    st.integers(100, 2_000_000).map(str),
    st.integers(100, 50_000).map(hex),
    st.integers(64, 50_000).map(lambda number: f"0{number:o}"),
    st.decimals(1, 30_000, places=2).map(str),
    st.floats(100, 2e6).map(lambda number: f"{number:.3e}"),
)
BLANKS = st.sampled_from(["", " "])
BYTES = st.sampled_from(["", "B", "kB", "MB", "GB"])
TIMES = st.sampled_from(["", "us", "ms", "s", "min", "h"])


@pytest.mark.parametrize(
    ("kind", "unit", "wanted", "has"),
    [
        ("bool", None, "true", "on"),
        ("bool", None, "YES", "on"),
        ("bool", None, "1", "on"),
        ("bool", None, "of", "off"),
        ("bool", None, "0", "off"),
        ("integer", "8kB", "33MB", "4224"),
        ("integer", "8kB", "33792kB", "4224"),
        ("integer", "8kB", "33792 kB", "4224"),
        ("integer", "8kB", "32768", "32768"),
        ("integer", "8kB", "32768", "256MB"),
        ("integer", "MB", "4GB", "4096"),
        ("integer", "kB", "30.1GB", "31561728"),
        ("integer", "8kB", "38.02MB", "4866"),
        ("integer", "ms", "1s", "1000"),
        ("integer", "ms", "1s", "1000ms"),
        ("integer", "s", "5min", "300"),
        ("integer", "min", "1d", "1440"),
        ("integer", None, "0777", "511"),
        ("integer", None, "0x10", "16"),
        ("integer", "kB", "-1", "-1"),
        ("real", None, "0.5", ".5"),
        ("real", None, "1e-1", "0.1"),
        ("real", None, "0.0123456789", "0.0123457"),
        ("real", "ms", "1s", "1000"),
        ("enum", None, "Replica", "replica"),
        ("enum", None, "hot_standby", "replica"),
        ("enum", None, "true", "on"),
        ("string", None, '"$user",public', '"$user", public'),
        ("string", None, "a,b", '"a", "b"'),
        ("string", None, 'a,"b ""c"""', 'a, "b ""c"""'),
        ("string", None, "", ""),
    ],
)
def test_one_value_written_in_two_ways_is_alike(kind: str, unit: str | None, wanted: str, has: str) -> None:
    assert alike(wanted, has, kind, unit)


@pytest.mark.parametrize(
    ("kind", "unit", "wanted", "has"),
    [
        ("bool", None, "true", "off"),
        ("bool", None, "o", "on"),
        ("integer", "8kB", "33MB", "16384"),
        ("integer", "8kB", "33MB", "33"),
        ("integer", "8kB", "1s", "1"),
        ("integer", None, "50", "51"),
        ("integer", None, "fifty", "50"),
        ("integer", "ms", "1.5s", "1000"),
        ("real", None, "0.5", "0.50001"),
        ("enum", None, "logical", "replica"),
        ("string", None, "a, b", "b, a"),
        ("string", None, '"a, b"', "a, b"),
        ("string", None, 'a, "b', "a"),
        ("string", None, "a", "a,"),
    ],
)
def test_two_values_are_not_alike(kind: str, unit: str | None, wanted: str, has: str) -> None:
    assert not alike(wanted, has, kind, unit)
    assert not alike(has, wanted, kind, unit)


@pytest.mark.parametrize(
    ("name", "units"), [("work_mem", BYTES), ("idle_in_transaction_session_timeout", TIMES), ("temp_buffers", BYTES)]
)
def test_what_a_server_makes_of_a_number_is_alike_and_its_double_is_not(
    connection: Connection, name: str, units: st.SearchStrategy[str]
) -> None:
    taken = 0

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(NUMBERS, BLANKS, units)
    def check(number: str, blank: str, unit: str) -> None:
        nonlocal taken
        text = f"{number}{blank}{unit}"
        try:
            connection.execute("SELECT set_config(%s, %s, false)", [name, text])
        except psycopg.errors.InvalidParameterValue:
            return
        row = connection.execute("SELECT setting, unit FROM pg_settings WHERE name = %s", [name]).fetchone()
        assert row is not None
        has, own_unit = row
        assert alike(text, has, "integer", own_unit)
        assert not alike(text, str(int(has) * 2 + 2), "integer", own_unit)
        taken += 1

    check()
    assert taken > 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_connections", "50"),
        ("wal_level", "logical"),
        ("track_commit_timestamp", "true"),
        ("track_commit_timestamp", "yes"),
        ("fsync", "0"),
        ("shared_buffers", "131072kB"),
        ("wal_buffers", "-1"),  # the server chose a size, and shows that
        ("unix_socket_permissions", "0777"),
        ("sort_mem", "4096"),  # an old name
        ("wal_compression", "false"),
        ("datestyle", "iso"),
        ("search_path", '"$user",public'),
        ("synchronous_commit", "true"),
    ],
)
def test_what_a_server_has_is_in_force_however_it_is_written(connection: Connection, name: str, value: str) -> None:
    connection.execute("SET search_path TO nowhere")  # a setting that a session changed is not the server's
    assert settings_without_effect(connection, {name: value}) == {}


def test_what_a_server_does_not_have_is_said_as_the_server_shows_it(connection: Connection) -> None:
    wanted = {"shared_buffers": "33MB", "no_such": "1", "no.such": "1", "fsync": "on", "wal_buffers": "33MB"}
    (wal_buffers,) = connection.execute("SHOW wal_buffers").fetchone() or ("",)
    assert settings_without_effect(connection, wanted) == {
        "shared_buffers": "128MB",
        "no_such": "no such setting",
        "no.such": "no such setting",
        "fsync": "off",
        "wal_buffers": wal_buffers,
    }


def test_a_database_that_overrules_a_setting_is_noticed(connection: Connection) -> None:
    name = connection.info.dbname
    connection.execute(f"ALTER DATABASE {name} SET work_mem = '5MB'; ALTER DATABASE {name} SET my.own = 'x'".encode())
    with connected(connection.info.dsn) as later:
        refuse_without_effect(later, {"work_mem": "5120kB", "my.own": "x"})
        with pytest.raises(
            InfrastructureError, match=r"--set work_mem=4MB had no effect: the server has 5MB; does the image"
        ):
            refuse_without_effect(later, {"work_mem": "4MB"})


def test_a_setting_that_a_role_may_not_see_is_not_taken_for_one_in_force(connection: Connection) -> None:
    connection.execute("CREATE ROLE onlooker")
    try:
        connection.execute("SET ROLE onlooker")
        differing = settings_without_effect(connection, {"shared_preload_libraries": "x", "fsync": "off"})
        assert differing == {"shared_preload_libraries": "a value that this role may not see"}
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE onlooker")
