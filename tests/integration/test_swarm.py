"""The swarm place end to end, on real engines: those that BENCH_TEST_SWARM names, the first of which is the manager.

BENCH_TEST_SWARM_NODE is a program that takes `kill N` and `revive N`; node 1 is the manager's.
"""

import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from requests.exceptions import RequestException

from bench.places.docker import image
from bench.places.swarm import cluster
from bench.results import models, store
from tests.conftest import REPOSITORY, Bench, read_until
from tests.integration import ours

pytestmark = pytest.mark.swarm

URLS = [url for url in os.environ.get("BENCH_TEST_SWARM", "").split(",") if url]
NODE_PROGRAM = os.environ.get("BENCH_TEST_SWARM_NODE", "")
PATIENCE_SECONDS = 60

SMALL = ("run", "--place", "swarm", "--scale", "9", "--insert-batch", "100", "--insert-loops", "3")
SLOW = ("run", "--place", "swarm", "--scale", "9", "--insert-batch", "10", "--transaction-ms", "40..60")
"""A producer appends about 200 events a second."""


class Swarm:
    """The nodes of the swarm, and the program with Docker contexts that lead to some of them."""

    def __init__(self, nodes: list[docker.DockerClient], bench: Bench) -> None:
        self.nodes = nodes
        self.manager = nodes[0]
        self.bench = bench
        self.names = [str(node.info()["Name"]) for node in nodes]

    def environment(self, reached: int = 3) -> dict[str, str]:
        """Docker contexts that lead to the first nodes, as `docker context create` keeps them."""
        folder = self.bench.home / f"docker-{reached}"
        for number, url in enumerate(URLS[:reached]):
            name = hashlib.sha256(f"n{number}".encode()).hexdigest()
            context = folder / "contexts" / "meta" / name / "meta.json"
            context.parent.mkdir(parents=True, exist_ok=True)
            context.write_text(
                json.dumps({"Name": f"n{number}", "Metadata": {}, "Endpoints": {"docker": {"Host": url}}})
            )
        return {"DOCKER_CONFIG": str(folder), "DOCKER_CONTEXT": "n0"}

    def __call__(self, *words: str, reached: int = 3) -> "subprocess.CompletedProcess[str]":
        return self.bench(*words, timeout=300, **self.environment(reached))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return self.bench.start(*words, **self.environment())

    def result(self) -> models.Result:
        (file,) = (self.bench.folder / "results" / "runs").glob("*/result.json")
        return store.load(file)

    def kill(self, number: int) -> None:
        subprocess.run([NODE_PROGRAM, "kill", str(number)], check=True, capture_output=True)

    def revive(self, number: int) -> None:
        subprocess.run([NODE_PROGRAM, "revive", str(number)], check=True, capture_output=True)
        until(lambda: all(node.is_up for node in cluster.nodes(self.manager).values()))

    def left(self) -> list[str]:
        """What is still there of this test's runs, on all nodes that run."""
        api = self.manager.api
        asked = (api.services, api.secrets, api.configs)
        listed = [each for ask in asked for each in ask(filters=ours.ONLY)]
        found = [str(each["Spec"]["Name"]) for each in listed if ours.is_ours(self.bench, each["Spec"]["Labels"])]
        for name, node in zip(self.names, self.nodes, strict=True):
            try:
                found += [f"{each} on {name}" for each in ours.left(node, self.bench)]
                # Also those that nobody labelled; nothing else may use this swarm.
                found += [f"volume {each.name} on {name}" for each in node.volumes.list()]
            except RequestException:
                pass  # it is down
        return found + [str(run) for run in self.bench.runs()]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def nodes() -> list[docker.DockerClient]:
    if len(URLS) < 3 or not NODE_PROGRAM:
        pytest.skip("no swarm of three nodes: BENCH_TEST_SWARM and BENCH_TEST_SWARM_NODE name none")
    return [docker.DockerClient(base_url=url, timeout=20) for url in URLS]


@pytest.fixture
def swarm(nodes: list[docker.DockerClient], bench: Bench) -> Iterator[Swarm]:
    found = Swarm(nodes, bench)
    yield found
    found("clean", "--place", "swarm")


def test_nine_producers_on_three_nodes(swarm: Swarm) -> None:
    ran = swarm(*SMALL, "--read-batch", "1000,7", "--set", "work_mem=8MB")
    assert ran.returncode == 0, ran.stderr
    assert swarm.left() == []
    assert "place: swarm (requested with --place" in ran.stderr
    result = swarm.result()
    trial = result.trials[0]
    assert trial.verdict.ok
    assert trial.verdict.expected_events == 2700
    assert Counter(each.node for each in trial.append.producers) == dict.fromkeys(swarm.names, 3)
    assert [node.node for node in trial.nodes] == sorted(swarm.names)
    assert sum(node.consumers for node in trial.nodes) == 2
    for node in trial.nodes:
        assert node.appended == 900
        assert node.appended_per_second
        assert node.round_trip_ms > 0
        assert abs(node.clock_offset_ms) < 1000
        assert re.search(rf"^\| {node.node} ", ran.stdout, re.MULTILINE)
    assert result.environment.settings == {"work_mem": "8MB"}
    assert result.environment.about["postgres_node"] == swarm.names[0]
    assert trial.telemetry.phases["append"].postgres_cpu_seconds
    again = swarm("table", "--from", "results/runs", str(page(swarm.bench.folder)))
    assert again.returncode == 0, again.stderr
    for node in trial.nodes:
        assert re.search(rf"^\| {node.node} ", page(swarm.bench.folder).read_text(), re.MULTILINE)


def page(folder: Path) -> Path:
    file = folder / "page.md"
    if not file.exists():
        file.write_text("<!-- bench nodes: begin -->\n<!-- bench nodes: end -->\n")
    return file


def test_two_trials_of_a_group_that_tails(swarm: Swarm) -> None:
    tailing = ("--mode", "tail", "--log", "partitioned", "--group", "3", "--max-per-node", "3", "--trials", "2")
    ran = swarm(*SMALL, *tailing, "--warm-up", "0")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert swarm.left() == []
    assert [[node.producers for node in trial.nodes] for trial in swarm.result().trials] == [[3, 3, 3]] * 2


def test_services_may_do_little_and_the_password_is_nowhere(swarm: Swarm) -> None:
    process = swarm.start(*SLOW, "--limit", "100000", "--worker-memory", "200m", "--postgres-cpus", "1.5")
    read_until(process, "append: 9 producers started")
    services = {re.sub(r"^bench-[0-9a-f-]*?-([a-z]+)-\d+$", r"\1", str(each.name)): each for each in of_runs(swarm)}
    assert set(services) == {"postgres", "producers"}
    on_manager = ours.containers(swarm.manager, swarm.bench)
    (postgres,) = [each for each in on_manager if "postgres" in str(each.name)]
    ran = postgres.exec_run(["cat", "/run/secrets/password"])
    password = ran.output.decode() if isinstance(ran.output, bytes) else ""
    assert len(password) >= 20
    for name, service in services.items():
        task: dict[str, Any] = service.attrs["Spec"]["TaskTemplate"]
        container = task["ContainerSpec"]
        assert container["ReadOnly"] is True
        assert container["CapabilityDrop"] == ["ALL"]
        assert task["RestartPolicy"]["Condition"] == "none"
        assert container["Image"].startswith("sha256:")
        limits = task["Resources"]["Limits"]
        assert limits == ({"NanoCPUs": 1_500_000_000} if name == "postgres" else {"MemoryBytes": 200 << 20})
        assert password not in json.dumps(service.attrs)
        assert "Ports" not in service.attrs["Spec"].get("EndpointSpec", {})
    for config in swarm.manager.configs.list(filters=ours.ONLY):
        config.reload()
        assert password not in json.dumps(config.attrs)
    for node in swarm.nodes:
        for each in ours.containers(node, swarm.bench):
            assert password not in json.dumps(each.attrs)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert password not in stdout + stderr
    assert swarm.left() == []


def of_runs(swarm: Swarm) -> list[Any]:
    """The services of this test's runs."""
    listed = swarm.manager.services.list(filters=ours.ONLY)
    return [each for each in listed if ours.is_ours(swarm.bench, each.attrs["Spec"]["Labels"])]


def test_a_node_that_dies_and_the_others_go_on(swarm: Swarm) -> None:
    process = swarm.start(*SLOW, "--limit", "6000", "--on-node-loss", "continue")
    read_until(process, "append: 9 producers started")
    read_until(process, "append: ")
    swarm.kill(3)
    try:
        stdout, stderr = process.communicate(timeout=180)
        assert process.returncode == 0, stderr
        assert f"the node {swarm.names[2]} was lost" in stderr
        trial = swarm.result().trials[0]
        (loss,) = trial.losses
        assert loss.node == swarm.names[2]
        assert len(loss.producers) == 3
        assert 0 < loss.acknowledged < 3 * 6000
        assert trial.verdict.ok
        assert trial.verdict.expected_events == 6 * 6000 + loss.acknowledged
        assert trial.verdict.indeterminate == 3 * 6000 - loss.acknowledged
        assert trial.append.events_per_second is None
        assert "node lost" in stdout
        assert sorted(node.node for node in trial.nodes) == sorted(swarm.names[:2])
        assert swarm.left() == []
    finally:
        swarm.revive(3)
    until(lambda: swarm.left() == [])


def test_a_node_that_dies_ends_the_run(swarm: Swarm) -> None:
    process = swarm.start(*SLOW, "--limit", "100000")
    read_until(process, "append: 9 producers started")
    read_until(process, "append: ")
    swarm.kill(2)
    try:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 3
        told = re.search(
            rf"the node {swarm.names[1]} was lost \d+ s after the start, and with it (producer-\d, ){{2}}producer-\d; "
            r"all of the ([\d,]+) events that were acknowledged until then are stored",
            stderr,
        )
        assert told, stderr
        assert int(told[2].replace(",", "")) > 0
        assert swarm.left() == []
    finally:
        swarm.revive(2)
    until(lambda: swarm.left() == [])


def test_the_node_of_postgres_dies(swarm: Swarm) -> None:
    process = swarm.start(*SLOW, "--limit", "100000", "--postgres-node", swarm.names[1], "--on-node-loss", "continue")
    read_until(process, "append: 9 producers started")
    swarm.kill(2)
    try:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 3
        assert f"the node {swarm.names[1]} is lost, and Postgres was on it" in stderr
        assert "Traceback" not in stderr
        assert swarm.left() == []
    finally:
        swarm.revive(2)
    until(lambda: swarm.left() == [])


def test_what_a_killed_run_left_is_cleaned_away(swarm: Swarm) -> None:
    process = swarm.start(*SLOW, "--limit", "100000")
    read_until(process, "append: 9 producers started")
    process.kill()
    process.communicate()
    assert len(of_runs(swarm)) == 2
    cleaned = swarm("clean", "--place", "swarm")
    assert "left in the swarm" in cleaned.stdout
    until(lambda: swarm.left() == [])


def test_nodes_that_lack_the_image_are_named_and_get_it(swarm: Swarm) -> None:
    base = image.present(swarm.manager)
    assert base is not None
    other = swarm.manager.containers.create(base)
    other.commit("only-here", "1", changes=f"LABEL made={time.time()}")
    other.remove()
    named = ("run", "--place", "swarm", "--scale", "3", "--limit", "10", "--worker-image", "only-here:1")
    ran = swarm(*named, reached=1)
    assert ran.returncode == 3
    for name in swarm.names[1:]:
        assert f"{name}: No such image" in ran.stderr
    assert "`bench image load`" in ran.stderr
    assert swarm.left() == []
    elsewhere = swarm(*named, "--constraint", f"node.hostname=={swarm.names[0]}", reached=1)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert [node.producers for node in swarm.result().trials[0].nodes] == [3]
    ran = swarm(*named)
    assert ran.returncode == 0, ran.stderr
    assert f"loading only-here:1 {swarm.manager.images.get('only-here:1').id} to {swarm.names[1]}" in ran.stderr
    for node in swarm.nodes:
        node.images.remove("only-here:1", force=True)


def test_the_image_is_loaded_where_contexts_lead(swarm: Swarm) -> None:
    tag = image.present(swarm.manager)
    assert tag is not None
    swarm.nodes[1].images.remove(str(tag.id), force=True)
    ran = swarm("image", "load", reached=2)
    assert ran.returncode == 0, ran.stderr
    here, reached, lost = ran.stdout.splitlines()[:3]
    assert here.startswith(f"{swarm.names[0]}: already"), ran.stdout
    assert reached == f"{swarm.names[1]}: loaded", ran.stdout
    assert lost.startswith(f"{swarm.names[2]}: not reached"), ran.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--max-per-node", "2"), 2, "--scale 9 is more than --max-per-node 2 allows on 3 nodes: 6"),
        (("--postgres-node", "nowhere"), 2, "--postgres-node nowhere: there is no such node in the swarm"),
        (("--constraint", "node.hostname==nowhere"), 3, "no node of the swarm that is up fits node.hostname==nowhere"),
        (("--set", "no_such_setting=1"), 2, 'unrecognized configuration parameter "no_such_setting"'),
    ],
)
def test_what_cannot_be_is_refused(swarm: Swarm, words: tuple[str, ...], code: int, told: str) -> None:
    ran = swarm(*SMALL, *words)
    assert (ran.returncode, told in ran.stderr) == (code, True), ran.stderr
    assert swarm.left() == []


def test_a_worker_of_the_swarm_is_no_place(swarm: Swarm) -> None:
    ran = swarm.bench(*SMALL, timeout=60, **{**swarm.environment(), "DOCKER_CONTEXT": "n1"})
    assert ran.returncode == 3
    assert "is a worker of its swarm" in ran.stderr


@pytest.mark.root
def test_a_postgres_by_its_address_needs_no_network_of_ours(swarm: Swarm) -> None:
    """The orchestrator runs where the manager's engine does, so that it reaches what the nodes reach."""
    if os.geteuid():
        pytest.skip("only root can enter a node's network")
    server = swarm.manager.containers.run(
        "postgres:18", detach=True, network="host", environment={"POSTGRES_PASSWORD": "secret"}
    )
    try:
        host = next(
            node["Status"]["Addr"]
            for node in swarm.manager.api.nodes()
            if node["Description"]["Hostname"] == swarm.names[0]
        )
        until(lambda: server.exec_run(["pg_isready", "-h", "127.0.0.1"]).exit_code == 0)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(URLS[0].removeprefix("unix://"))
            engine, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        words = swarm.bench.command(*SMALL, "--dsn", f"postgresql://postgres:secret@{host}/postgres")
        process = subprocess.Popen(
            ["nsenter", "--target", str(engine), "--net", *words],
            cwd=swarm.bench.folder,
            env=swarm.bench.environment(**swarm.environment()),
            stderr=subprocess.PIPE,
            text=True,
        )
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert [node.producers for node in swarm.result().trials[0].nodes] == [3, 3, 3]
    finally:
        server.remove(force=True, v=True)
    assert swarm.left() == []


def test_by_hand_as_a_stack(swarm: Swarm) -> None:
    worker_image = image.present(swarm.manager)
    assert worker_image is not None
    environment = {
        **swarm.bench.environment(**swarm.environment()),
        "WORKER_IMAGE": str(worker_image.id),
        "LIMIT": "1234",
        "INSERT_BATCH": "100",
        "READ_BATCH": "7",
    }

    def run(*words: str, given: str | None = None) -> str:
        ran = subprocess.run(
            ["docker", *words], env=environment, capture_output=True, text=True, check=False, timeout=60, input=given
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def states(service: str) -> list[str]:
        (found,) = swarm.manager.services.list(filters={"name": f"by-hand_{service}"})
        return [task["Status"]["State"] for task in found.tasks()]  # type: ignore[no-untyped-call]

    def answers() -> bool:
        found = swarm.manager.containers.list(filters={"name": "by-hand_postgres"}, ignore_removed=True)
        return bool(found) and found[0].exec_run(["pg_isready", "-h", "127.0.0.1"]).exit_code == 0

    run("secret", "create", "bench_password", "-", given="not for the world")
    try:
        stack = REPOSITORY / "compose" / "stack.yml"
        run("stack", "deploy", "--resolve-image", "never", "-c", str(stack), "by-hand")
        until(answers)
        run("service", "scale", "--detach", "by-hand_producer=4")
        until(lambda: states("producer") == ["complete"] * 4)
        run("service", "scale", "--detach", "by-hand_consumer=1")
        until(lambda: states("consumer") == ["complete"])
        (report,) = re.findall(r'{"record":"report".*}', run("service", "logs", "--raw", "by-hand_consumer"))
        assert json.loads(report)["events"] == 4936
        assert json.loads(report)["checksum"] == 4 * 1234 * 1233 // 2
    finally:
        run("stack", "rm", "by-hand")
        run("secret", "rm", "bench_password")
        list_all = partial(swarm.manager.containers.list, all=True, ignore_removed=True)
        until(lambda: not list_all(filters={"name": "by-hand"}))
        for volume in swarm.manager.volumes.list():
            volume.remove()
