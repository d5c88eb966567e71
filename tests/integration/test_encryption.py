"""A server that lets nobody in unencrypted: workers leave all that is said to libpq, and say the same."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from bench import eventlog
from bench.places.local import postgres as embedded
from bench.postgres import install
from bench.postgres.audit import look_through
from bench.postgres.connection import Connection, connected
from bench.records import Report
from bench.results.store import latest
from bench.run.jobs import consumers
from bench.specfile import make
from tests.conftest import SETTINGS, Bench
from tests.integration.test_workers import producer, told, work

BIGSERIAL = eventlog.load("bigserial")
PASSWORD = "not a secret"


@pytest.fixture(scope="module")
def encrypted(short_folder: Path) -> Iterator[str]:
    """The conninfo of a server with a certificate of its own. The wheel's knows no TLS, a distribution's does."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or not shutil.which("openssl"):
        pytest.skip("no PostgreSQL with TLS: apt-get install postgresql openssl")
    programs = embedded.binaries(found[-1].parent)
    folder = short_folder / "encrypted"
    folder.mkdir(mode=0o711)
    key, certificate = folder / "key", folder / "certificate"
    words = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate)
    subprocess.run(["openssl", "req", *words], check=True, capture_output=True)
    if programs.user:
        shutil.chown(key, programs.user)
    settings = {
        **SETTINGS,
        "ssl": "on",
        "ssl_key_file": str(key),
        "ssl_cert_file": str(certificate),
        "listen_addresses": "127.0.0.1",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    embedded.init(programs, folder)
    access = folder / "data" / "pg_hba.conf"
    access.write_text(access.read_text().replace("\nhost ", "\nhostssl "))
    server = embedded.start(programs, folder, settings, port)
    try:
        embedded.await_answer(server, folder, port)
        with psycopg.connect(embedded.conninfo(folder, port), autocommit=True) as admin:
            admin.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'".encode())
        yield make_conninfo(
            host="127.0.0.1",
            port=port,
            user="postgres",
            dbname="postgres",
            password=PASSWORD,
            sslmode="verify-ca",
            sslrootcert=str(certificate),
        )
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def tls(encrypted: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection to the server with the bigserial log installed."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with connected(encrypted) as connection, install.installed(connection, BIGSERIAL, "test"):
        assert connection.pgconn.ssl_in_use
        yield connection


def test_nobody_is_let_in_unencrypted(encrypted: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(make_conninfo(encrypted, sslmode="disable"))


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
def test_what_producers_append_a_consumer_reads(tls: Connection, append: str) -> None:
    code, records, stderr = work("producers", tls, producer(append=append))
    assert (code, stderr) == (0, "")
    assert told(records, "acknowledged") == [(0, 0, 99)]
    code, records, stderr = work("consumer", tls, consumers(make({"limit": 100}, None), BIGSERIAL, 7)[0])
    assert (code, stderr) == (0, "")
    report = records[-1]
    assert isinstance(report, Report)
    assert (report.events, report.checksum, report.max_etag_gap) == (100, 4950, 1)
    assert look_through(tls, BIGSERIAL)[:3] == ([(0, 0, 99)], 0, [])


def test_a_run_on_an_encrypted_server(bench: Bench, encrypted: str) -> None:
    small = ("--scale", "2", "--limit", "200", "--insert-batch", "7", "--read-batch", "100,3")
    ran = bench("run", "--place", "local", "--log", "advisory-lock", *small, "--dsn", encrypted)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict: ok. 400 events were acknowledged" in ran.stdout
    assert PASSWORD not in ran.stdout + ran.stderr
    result = latest(bench.folder / "results" / "runs")
    assert result.through_libpq
    assert PASSWORD not in result.reproduce
    deep = bench("run", "--place", "local", *small[:4], "--cursor", "client", "--depth", "8", "--dsn", encrypted)
    assert deep.returncode == 2
    assert "--depth 8: this connection is encrypted" in deep.stderr


def test_readers_begin_after_preloaded_events_and_events_are_deleted_behind_them(bench: Bench, encrypted: str) -> None:
    flags = ("--mode", "tail", "--rate", "200:2.2s", "--insert-batch", "5", "--preload", "500", "--retention", "50")
    ran = bench("run", "--place", "local", "--log", "lock-drain", *flags, "--dsn", encrypted)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = latest(bench.folder / "results" / "runs")
    assert result.through_libpq
    (trial,) = result.trials
    assert trial.reads[0].events == trial.append.events == 440
    assert trial.retention is not None
    assert trial.retention.deleted > 0
