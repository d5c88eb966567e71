"""The docker place end to end, on a real engine."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import docker
import pytest
from docker.models.containers import Container

from bench import eventlog
from bench.errors import InfrastructureError
from bench.overhead import testbed
from bench.places.docker import image
from bench.places.docker import place as docker_place
from bench.places.docker.leftovers import sweep
from bench.places.docker.options import ContainerOptions
from bench.places.docker.password import SECRETS
from bench.places.dsn import existing_database
from bench.places.rundir import opened
from bench.postgres.connection import connected
from bench.results import models, store
from bench.run.place import choose, open_place
from bench.run.watch import Unwatched
from bench.specfile import make
from tests.conftest import REPOSITORY, Bench, broken_log, read_until
from tests.integration import ours, sshd

pytestmark = pytest.mark.docker

SMALL = ("run", "--place", "docker", "--scale", "2", "--insert-batch", "100", "--insert-loops", "3")


def stored(bench: Bench) -> models.Result:
    (file,) = (bench.folder / "results" / "runs").glob("*/result.json")
    return store.load(file)


def output(container: Container, *command: str, user: str = "") -> str | None:
    """What a command prints in a container; None when it failed."""
    ran = container.exec_run(list(command), user=user)
    assert isinstance(ran.output, bytes)
    return ran.output.decode() if ran.exit_code == 0 else None


def kill(engine: docker.DockerClient, bench: Bench, name: str) -> None:
    """Kill the one container of this test's run whose name ends like this."""
    ours.container(engine, bench, name).kill()


def nothing_is_left(engine: docker.DockerClient, bench: Bench) -> None:
    assert ours.left(engine, bench) == []
    assert bench.runs() == []
    assert bench.processes() == []


@pytest.fixture(autouse=True)
def clean_engine(engine: docker.DockerClient, bench: Bench) -> Iterator[None]:
    yield
    sweep([engine])


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
def test_each_way_to_append_three_reads_and_a_short_last_batch(
    engine: docker.DockerClient, bench: Bench, append: str
) -> None:
    ran = bench(
        *("run", "--scale", "3", "--insert-batch", "100", "--limit", "1234", "--read-batch", "1000,100,7"),
        *("--append", append, "--set", "work_mem=8MB"),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.startswith("place: docker (a Docker engine answers")
    result = stored(bench)
    trial = result.trials[0]
    assert trial.verdict.ok
    assert trial.verdict.expected_events == 3 * 1234
    assert [(read.read_batch, read.events) for read in trial.reads] == [(1000, 3702), (100, 3702), (7, 3702)]
    assert result.environment.settings == {"work_mem": "8MB"}
    assert re.fullmatch(r"postgres:18 sha256:[0-9a-f]{64}", result.environment.about["postgres_image"])
    nothing_is_left(engine, bench)


@pytest.mark.parametrize("scale", ["1", "10"])
def test_scale(engine: docker.DockerClient, bench: Bench, scale: str) -> None:
    ran = bench(*SMALL[:4], scale, *SMALL[5:])
    assert ran.returncode == 0, ran.stderr
    assert len(stored(bench).trials[0].append.producers) == int(scale)
    nothing_is_left(engine, bench)


@pytest.mark.parametrize(
    "words", [("--log", "logical-slot"), ("--log", "partitioned", "--group", "3", "--rejoin", "4")]
)
def test_tailing_while_transactions_overlap(engine: docker.DockerClient, bench: Bench, words: tuple[str, ...]) -> None:
    overlapping = ("--mode", "tail", "--transaction-ms", "0..10", "--abort-rate", "0.2", "--read-batch", "50")
    ran = bench("run", "--scale", "4", "--insert-batch", "5", "--insert-loops", "20", *overlapping, *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    verdict = stored(bench).trials[0].verdict
    assert verdict.expected_events + verdict.aborted == 400
    nothing_is_left(engine, bench)


def test_an_older_postgres(engine: docker.DockerClient, bench: Bench) -> None:
    ran = bench(*SMALL, "--postgres-image", "postgres:17")
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    assert result.environment.postgres.startswith("17.")
    seen = result.trials[0].telemetry.phases["append"]
    assert seen.counters["wal_bytes"] > 0
    assert seen.counters["wal_fsyncs"] > 0
    assert seen.postgres_cpu_seconds
    assert seen.postgres_memory_bytes
    nothing_is_left(engine, bench)


def test_limits_beside_programs_in_containers(
    engine: docker.DockerClient, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(bench.home))
    spec, log = make({"place": "docker"}, None), eventlog.load("bigserial")
    with (
        opened("limits") as folder,
        open_place(choose(spec), spec, log, folder) as place,
        connected(place.database.conninfo) as connection,
    ):
        bed = testbed.Testbed(place, connection, log, Unwatched())
        bed.fill(testbed.READ, 4000)
        bed.install()
        assert bed.read(1000, 4000) > 0
        assert bed.pgbench_reads(1000, 4000) > 0
        assert bed.psql_reads(4000) > 0
        assert bed.psql_appends(4000) > 0
    nothing_is_left(engine, bench)


def test_a_failed_verdict(engine: docker.DockerClient, bench: Bench) -> None:
    log = broken_log(bench.folder / "lossy", (REPOSITORY / "tests" / "logs" / "lossy.sql").read_text())
    ran = bench(*SMALL, "--log", str(log), "--idle-timeout", "1")
    assert ran.returncode == 1, ran.stderr
    assert stored(bench).trials[0].verdict.lost == 2
    nothing_is_left(engine, bench)


def test_containers_may_do_little_and_the_password_is_nowhere(engine: docker.DockerClient, bench: Bench) -> None:
    limits = ("--worker-memory", "200m", "--worker-cpus", "0.5", "--postgres-memory", "1g", "--postgres-cpus", "1.5")
    process = bench.start(*SMALL[:-1], "20000", *limits)
    read_until(process, "append: 2 producers started")
    containers = ours.containers(engine, bench)
    assert len(containers) == 4
    password = output(ours.container(engine, bench, "postgres"), "cat", f"{SECRETS}/password") or ""
    assert len(password) >= 20
    for each in containers:
        each.reload()
        host = each.attrs["HostConfig"]
        who = str(each.name).rpartition("-")[2]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        allowed = {"postgres": (2**30, 1_500_000_000), "keeper": (0, 0)}
        assert (host["Memory"], host["NanoCpus"]) == allowed.get(who, (200 * 2**20, 500_000_000))
        assert (output(each, "id", "-u") or "0").strip() != "0"
        assert password not in json.dumps(each.attrs)
        assert password not in each.logs().decode()
        assert not any(each.attrs["NetworkSettings"]["Ports"].values())
    commands = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in commands
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert password not in stdout + stderr
    nothing_is_left(engine, bench)


@pytest.mark.parametrize("until", ["place:", "append: starting", "append: 2 producers started", "read 10: starting"])
def test_an_interrupt_leaves_nothing(engine: docker.DockerClient, bench: Bench, until: str) -> None:
    limit = "20000" if until.startswith("read") else "3000000"
    words = ("--insert-batch", "1000", "--limit", limit, "--read-batch", "1000,10")
    process = bench.start("run", "--place", "docker", "--scale", "2", *words)
    read_until(process, until)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    nothing_is_left(engine, bench)


def test_a_producer_that_dies_fails_the_run(engine: docker.DockerClient, bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    kill(engine, bench, "producer-1")
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "producer-1 ended before its job was done, with exit code 137" in stderr
    nothing_is_left(engine, bench)


def test_a_producer_that_is_killed_for_memory_says_so(engine: docker.DockerClient, bench: Bench) -> None:
    words = ("--insert-batch", "1000000", "--append", "copy", "--worker-memory", "64m")
    ran = bench("run", "--place", "docker", "--scale", "1", *words)
    assert ran.returncode == 3
    assert "killed because it went over its memory limit" in ran.stderr
    nothing_is_left(engine, bench)


def test_a_postgres_that_dies_fails_the_run(engine: docker.DockerClient, bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    kill(engine, bench, "postgres")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "before its job was done" in stderr
    assert "Postgres ended with exit code 137; the last lines of its log:\n" in stderr
    nothing_is_left(engine, bench)


@pytest.mark.parametrize(
    ("memory", "says"),
    [
        ("20m", "Postgres did not start: it went over the memory limit of its container"),
        (
            "60m",
            "Postgres went over the memory limit of its container, and processes of it were killed; the last lines",
        ),
    ],
)
def test_a_postgres_that_is_killed_for_memory_says_so(
    engine: docker.DockerClient, bench: Bench, memory: str, says: str
) -> None:
    ran = bench(*SMALL[:3], "--scale", "1", "--insert-batch", "100000", "--postgres-memory", memory)
    assert ran.returncode == 3
    assert says in ran.stderr
    nothing_is_left(engine, bench)


def test_what_a_killed_run_left_is_removed_by_the_next(engine: docker.DockerClient, bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    process.kill()
    process.communicate()
    cleaned = bench("clean")
    assert cleaned.returncode == 0, cleaned.stderr
    nothing_is_left(engine, bench)


def test_worker_images_that_nobody_can_use_any_more_are_cleaned_away(engine: docker.DockerClient, bench: Bench) -> None:
    current = image.built(engine)
    host = socket.gethostname()
    made_by = {
        "old": image.checkout(),
        "gone": f"{host}:/nowhere",
        "other": f"{host}:/",
        "elsewhere": "elsewhere:/nowhere",
    }
    for tag, checkout in made_by.items():
        dockerfile = f"FROM {image.BASE}\nLABEL {image.CHECKOUT_LABEL}={checkout}\n"
        engine.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=f"{image.REPOSITORY}:{tag}", rm=True)
    try:
        bench("clean")
        tags = {tag for each in engine.images.list(name=image.REPOSITORY) for tag in each.tags}
        assert tags & {f"{image.REPOSITORY}:{tag}" for tag in made_by} == {
            f"{image.REPOSITORY}:other",
            f"{image.REPOSITORY}:elsewhere",
        }
        assert image.built(engine).id == current.id
    finally:
        for tag in ("other", "elsewhere"):
            engine.images.remove(f"{image.REPOSITORY}:{tag}")


def test_a_disk_that_is_too_small_is_refused_before_the_start(engine: docker.DockerClient, bench: Bench) -> None:
    ran = bench("run", "--place", "docker", "--scale", "1000", "--limit", "1000000000", "--payload-bytes", "1000")
    assert ran.returncode == 3
    assert "GiB are free" in ran.stderr
    nothing_is_left(engine, bench)


def test_settings_that_postgres_refuses(engine: docker.DockerClient, bench: Bench) -> None:
    ran = bench(*SMALL, "--set", "shared_preload_libraries=nosuch")
    assert ran.returncode == 2
    assert '--set: Postgres says: could not access file "nosuch"' in ran.stderr
    nothing_is_left(engine, bench)


def test_an_image_that_cannot_be_had(engine: docker.DockerClient, bench: Bench) -> None:
    ran = bench(*SMALL, "--worker-image", "no-such-image:here")
    assert ran.returncode == 3
    assert "no-such-image:here is not present and cannot be pulled" in ran.stderr
    nothing_is_left(engine, bench)


def test_workers_in_containers_on_a_postgres_by_its_address(
    engine: docker.DockerClient, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = bench("start")
    assert started.returncode == 0, started.stderr
    try:
        address = started.stdout.splitlines()[-1]
        bench("psql", "--", "-qc", "ALTER DATABASE postgres RESET search_path", "-c", "DROP SCHEMA bench CASCADE")
        ran = bench(*SMALL, "--dsn", address)
        assert ran.returncode == 0, ran.stderr
        assert stored(bench).trials[0].verdict.ok
        socket = f"host={bench.home} user=postgres"
        refused = bench(*SMALL, "--dsn", socket)
        assert refused.returncode == 2
        assert "do not reach a unix socket" in refused.stderr
        monkeypatch.setenv("TMPDIR", str(bench.home))
        database = existing_database(address)
        with (
            opened("elsewhere") as folder,
            docker_place.opened(folder, ContainerOptions(), database) as host,
            # As on an engine of another machine, whose localhost is another one.
            pytest.raises(
                InfrastructureError, match=r"^lost\nThis machine reaches that Postgres, .*: localhost there is"
            ),
            replace(host, network="none").workers(database),
        ):
            raise InfrastructureError("lost")
    finally:
        bench("stop", "--drop")
    nothing_is_left(engine, bench)


def test_a_worker_sees_the_limits_of_its_container(engine: docker.DockerClient) -> None:
    seen = engine.containers.run(
        image.built(engine),
        ["-c", "from bench.quota import *; print(usable_processors(), memory_limit())"],
        entrypoint="python",
        nano_cpus=500_000_000,
        mem_limit="200m",
        remove=True,
    )
    assert seen.decode().split() == ["0.5", str(200 * 2**20)]


def test_the_pgtap_tests_pass(engine: docker.DockerClient) -> None:
    image, _ = engine.images.build(
        path=str(REPOSITORY / "compose"),
        dockerfile="pgtap.Dockerfile",
        tag="eventlog-bench-pgtap",
        rm=True,
        forcerm=True,
    )
    server = engine.containers.run(
        image,
        detach=True,
        environment={"POSTGRES_PASSWORD": os.urandom(8).hex()},
        volumes={str(REPOSITORY / "sql"): {"bind": "/sql", "mode": "ro"}},
        command=["-c", "wal_level=logical", "-c", "track_commit_timestamp=on"],
    )
    try:
        deadline = time.monotonic() + 60
        while server.exec_run(["pg_isready", "-h", "127.0.0.1"]).exit_code:
            assert time.monotonic() < deadline, server.logs().decode()
        for log in eventlog.shipped():
            prove = f"""
                createdb {log}
                psql -qv ON_ERROR_STOP=1 -d {log} -c 'CREATE EXTENSION pgtap' -f /sql/{log}/schema.sql >&2
                pg_prove --verbose --dbname {log} /sql/tests/{log}.sql 2>&1 || true
            """
            proved = output(server, "sh", "-ec", prove, user="postgres") or ""
            assert "Result: PASS" in proved, f"{log}: {proved}"
    finally:
        server.remove(force=True, v=True)


def test_by_hand_with_compose(bench: Bench) -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose")
    compose = ["docker", "compose", "-f", str(REPOSITORY / "compose" / "compose.yml")]
    environment = bench.environment(
        POSTGRES_PORT="0", LIMIT="1234", INSERT_BATCH="100", READ_BATCH="7", DOCKER_BUILDKIT="0"
    )

    def docker_compose(*words: str) -> str:
        ran = subprocess.run(
            [*compose, *words], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
        return ran.stdout

    try:
        docker_compose("up", "--build", "--detach", "--scale", "producer=10")
        docker_compose("wait", "consumer")
        assert bench("clean").returncode == 0  # which leaves it alone
        (report,) = re.findall(r'{"record":"report".*}', docker_compose("logs", "consumer"))
        assert json.loads(report)["events"] == 12340
        assert json.loads(report)["checksum"] == 10 * 1234 * 1233 // 2
    finally:
        docker_compose("down", "--volumes")


def test_workers_start_together(engine: docker.DockerClient, bench: Bench) -> None:
    """No producer appends before the last one is ready: while one is still to come, the log is empty."""
    process = bench.start(*SMALL[:4], "10", *SMALL[5:-1], "20000")
    seen: list[int] = []
    reader = threading.Thread(target=read_until, args=(process, "append: 10 producers started"))
    reader.start()
    query = ["psql", "-Atc", "SELECT count(*) FROM bench.events_log"]
    while reader.is_alive():
        for each in ours.containers(engine, bench):
            if str(each.name).endswith("postgres"):
                answer = output(each, *query)
                if reader.is_alive() and answer:
                    seen.append(int(answer))
    reader.join()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert seen
    assert set(seen) == {0}


def test_a_plain_engine_is_no_swarm(engine: docker.DockerClient, bench: Bench) -> None:
    ran = bench("run", "--place", "swarm")
    assert ran.returncode == 3
    assert "`docker swarm init` makes one" in ran.stderr
    assert bench("clean", "--place", "swarm").returncode == 3
    nothing_is_left(engine, bench)


def test_an_engine_behind_ssh(engine: docker.DockerClient, bench: Bench) -> None:
    """Nothing but the engine's socket is reached through ssh: no port, and no file."""
    if not sshd.SSHD:
        pytest.skip("there is no sshd")
    folder = bench.home / "ssh"
    folder.mkdir()
    with sshd.serving(folder) as (config, port):
        ssh = folder / "bin" / "ssh"
        ssh.parent.mkdir()
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        ssh.chmod(0o755)
        there = {"PATH": f"{ssh.parent}:{os.environ['PATH']}", "DOCKER_HOST": f"ssh://127.0.0.1:{port}"}
        ran = bench(*SMALL, timeout=300, **there)
        assert ran.returncode == 0, ran.stderr
        assert stored(bench).trials[0].verdict.ok
        assert bench.processes("ssh -T") == []
        assert list(bench.home.glob("bench-ssh-*")) == []
        refused = bench(*SMALL, timeout=60, **{**there, "DOCKER_HOST": "ssh://127.0.0.1:1"})
        assert refused.returncode == 3
        assert "ssh" in refused.stderr
        assert "ssh://127.0.0.1:1: " in refused.stderr
    nothing_is_left(engine, bench)


def test_contexts(engine: docker.DockerClient, bench: Bench) -> None:
    configuration = bench.home / "docker"
    here = {"DOCKER_CONFIG": str(configuration)}
    host = engine.api.base_url.replace("http+docker://localhost", "unix:///var/run/docker.sock")
    for name, url in (("good", host), ("bad", "unix:///nowhere.sock")):
        words = ["docker", "context", "create", name, "--docker", f"host={url}"]
        subprocess.run(words, env=bench.environment(**here), check=True, capture_output=True)
    (configuration / "config.json").unlink(missing_ok=True)
    ran = bench(*SMALL, timeout=300, DOCKER_CONTEXT="good", **here)
    assert ran.returncode == 0, ran.stderr
    for name, told in (("bad", "no Docker engine answers"), ("unknown", "there is no Docker context unknown")):
        ran = bench(*SMALL, timeout=60, DOCKER_CONTEXT=name, **here)
        assert ran.returncode == 3
        assert told in ran.stderr
    (configuration / "config.json").write_text('{"currentContext": "bad"}')
    assert bench(*SMALL, timeout=60, **here).returncode == 3
    for broken, told in (("{", "cannot be read"), ("[]", "holds no JSON object")):
        (configuration / "config.json").write_text(broken)
        ran = bench(*SMALL, timeout=60, **here)
        assert ran.returncode == 3
        assert f"config.json {told}" in ran.stderr


def test_the_image_goes_to_a_registry_and_comes_back_by_its_digest(engine: docker.DockerClient, bench: Bench) -> None:
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("there is no docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = bench.home / "registry.yml"
    stored_in = bench.home / "registry"
    configuration.write_text(
        f"version: 0.1\nhttp: {{addr: '{address}'}}\nstorage: {{filesystem: {{rootdirectory: '{stored_in}'}}}}\n"
    )
    with subprocess.Popen([program, "serve", str(configuration)], stderr=subprocess.PIPE, text=True) as registry:
        try:
            read_until(registry, "", containing="listening on")
            pushed = bench("image", "push", f"{address}/workers")
            assert pushed.returncode == 0, pushed.stderr
            name = pushed.stdout.strip()
            assert re.fullmatch(rf"{address}/workers@sha256:[0-9a-f]{{64}}", name)
            for tag in engine.images.get(name).tags:
                if tag.startswith(address):
                    engine.images.remove(tag)
            ran = bench(*SMALL, "--worker-image", name)
            assert ran.returncode == 0, ran.stderr
            assert stored(bench).spec["worker_image"] == name
            engine.images.remove(name)
            refused = bench("image", "push", "127.0.0.1:1/workers")
            assert refused.returncode == 3
            assert "cannot be pushed" in refused.stderr
        finally:
            registry.terminate()
    for tag in engine.images.get(image.built(engine).id or "").tags:
        if "127.0.0.1" in tag:
            engine.images.remove(tag)
    nothing_is_left(engine, bench)
