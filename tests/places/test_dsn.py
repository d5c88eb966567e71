"""Connection strings taken apart."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from bench.errors import UsageError
from bench.places.dsn import (
    names_this_machine,
    pgpass,
    refuse_for_containers,
    variables,
    with_password,
    without_password,
)


def test_a_url_becomes_libpqs_variables_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "not this one")
    monkeypatch.setenv("PGSSLMODE", "disable")
    found, password = variables("postgresql://ann:s%40cret@db.example:5433/shop?options=-c%20jit%3Doff")
    assert password == "s@cret"
    assert found["PGHOST"] == "db.example"
    assert found["PGPORT"] == "5433"
    assert found["PGUSER"] == "ann"
    assert found["PGDATABASE"] == "shop"
    assert found["PGOPTIONS"] == "-c jit=off"
    assert found["PGSSLMODE"] == "disable"
    assert "PGPASSWORD" not in found


def test_the_environments_password_is_taken_when_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from outside")
    assert variables("host=db")[1] == "from outside"
    assert conninfo_to_dict(with_password("host=db", "x y'z"))["password"] == "x y'z"


def test_an_option_that_workers_cannot_be_told_is_refused() -> None:
    with pytest.raises(UsageError, match="keepalives cannot be passed on"):
        variables("host=db keepalives=0")


@pytest.mark.parametrize(
    "dsn", ["dbname=x", "host=/tmp", "host=db,/tmp", "host=db passfile=/x", "host=db sslrootcert=/x"]
)
def test_what_means_nothing_in_a_container_is_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    with pytest.raises(UsageError, match="--place local"):
        refuse_for_containers(dsn)


def test_what_is_shown_has_no_password() -> None:
    assert conninfo_to_dict(without_password("postgresql://ann:secret@db/shop")) == {
        "user": "ann",
        "host": "db",
        "dbname": "shop",
    }


def test_a_password_file_keeps_every_character() -> None:
    assert pgpass("a:b\\c") == "*:*:*:*:a\\:b\\\\c\n"


@pytest.mark.parametrize(
    ("dsn", "does"),
    [
        ("host=localhost", True),
        ("host=db,127.0.0.2", True),
        ("hostaddr=::1 host=db", True),
        ("hostaddr=10.0.0.1", False),
        ("postgresql://db/shop", False),
    ],
)
def test_a_host_that_means_another_machine_in_a_container(dsn: str, *, does: bool) -> None:
    refuse_for_containers(dsn)
    assert names_this_machine(dsn) is does
