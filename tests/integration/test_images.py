"""Postgres images of other shapes: each works, or what is wrong with it is said at once."""

import io
from collections.abc import Iterator

import docker
import pytest

from bench.results import store
from tests.conftest import Bench
from tests.integration import ours

pytestmark = pytest.mark.docker

SMALL = ("run", "--place", "docker", "--scale", "1", "--limit", "10", "--set", "work_mem=8MB")


@pytest.fixture
def image(engine: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """An image that is postgres:18 with more lines in its Dockerfile."""
    built, _ = engine.images.build(fileobj=io.BytesIO(f"FROM postgres:18\n{request.param}\n".encode()), rm=True)
    yield str(built.id)
    engine.images.remove(str(built.id), force=True, noprune=True)


@pytest.mark.parametrize(
    "image", ["ENV POSTGRES_USER=app POSTGRES_DB=app POSTGRES_PASSWORD=app PGDATA=/data"], indirect=True
)
def test_what_an_image_names_otherwise_is_as_we_need_it(engine: docker.DockerClient, bench: Bench, image: str) -> None:
    ran = bench(*SMALL, "--postgres-image", image)
    assert ran.returncode == 0, ran.stderr
    (file,) = (bench.folder / "results" / "runs").glob("*/result.json")
    assert store.load(file).environment.settings == {"work_mem": "8MB"}
    assert ours.left(engine, bench) == []


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ('ENTRYPOINT ["sh", "-c", "exec docker-entrypoint.sh postgres"]', "--set work_mem=8MB had no effect"),
        ('ENTRYPOINT ["true"]', "ended at once with exit code 0"),
        ('ENTRYPOINT ["sh", "-c", "echo no licence; exit 7"]', "exit code 7; the last lines of its log:\nno licence\n"),
    ],
    indirect=["image"],
)
def test_an_image_that_does_not_do_says_why(engine: docker.DockerClient, bench: Bench, image: str, says: str) -> None:
    ran = bench(*SMALL, "--postgres-image", image)
    assert ran.returncode == 3
    assert says in ran.stderr
    assert ours.left(engine, bench) == []
