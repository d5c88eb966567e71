"""`bench table-size`: how fast a log is when it holds few events, and when it holds many.

Each round appends to the log and reads it at each size, on one PostgreSQL, and each time on a log that was filled anew;
every second round goes through the sizes backwards, so that a slow minute affects all of them. Tables are made from the
record, `table-size.json`.
"""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from bench.errors import UsageError
from bench.eventlog import Log
from bench.flags import RESULTS, Flag, ResultsFolder, flag_name, sizes
from bench.places.api import Place
from bench.places.rundir import RunFolder
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.results.base import StoredModel
from bench.results.models import Result
from bench.run import environment, preflight, trials
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import carry_out_trial
from bench.run.trials import Done
from bench.run.watch import Watch
from bench.spec import MAX_LIMIT, Spec
from bench.values import parse_count

FILE = "table-size.json"
NOT_FOR_SIZES = ("preload", "trials", "warm_up", "fresh", "pause", "slo")
"""Fields of a spec that make no sense here: the command itself says how often and at which size each trial is run;
each search would offer another load."""
_news = logging.getLogger("bench")


class Options(BaseModel):
    """The flags of `bench table-size` that are not those of `bench run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
    groups: ClassVar = {"Table sizes": "sizes"}
    """As in `Spec`."""

    sizes: Annotated[
        tuple[Annotated[int, BeforeValidator(parse_count), Field(ge=0, le=MAX_LIMIT)], ...],
        Field(min_length=1, max_length=20),
        Flag("N[,N...]", default="0,100k,1M"),
    ] = (0, 100_000, 1_000_000)
    """Events in the log before a trial; the empty log is always among the sizes."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of trials at each size."""
    output: ResultsFolder = RESULTS

    @field_validator("sizes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return sizes(value)

    @field_validator("sizes")
    @classmethod
    def _ascend_from_the_empty_log(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({0, *value}))


class TableSizes(StoredModel):
    """The record of `bench table-size`."""

    schema_: Literal["bench.table-size/1"] = Field(default="bench.table-size/1", alias="schema")
    run_id: str
    started_at: datetime
    command: str
    """The command as it was typed."""
    sizes: list[Result]
    """A result per size, from the empty log on, with a trial per round; the size is the `preload` of its spec."""

    @property
    def ok(self) -> bool:
        """Whether the verdict of every trial is ok."""
        return all(result.ok for result in self.sizes)


def specs(base: Spec, options: Options) -> list[Spec]:
    """The spec of each size.

    Raises:
        UsageError: the spec has a value that this command chooses itself.
    """
    for name in NOT_FOR_SIZES:
        if name in base.model_fields_set:
            raise UsageError(f"{flag_name(name)}: not a flag of `bench table-size`; leave it out")
    given = base.model_dump(include=base.model_fields_set)
    return [Spec.model_validate({**given, "preload": size}) for size in options.sizes]


def measure(
    of_sizes: list[Spec], log: Log, rounds: int, chosen: ChosenPlace, folder: RunFolder, command: str, watch: Watch
) -> Iterator[TableSizes]:
    """Carry out round after round; yields the record so far after each. Ends early after a failed verdict.

    A trial on the empty log comes first and is discarded.

    Raises:
        BenchError: the trials cannot be carried out, or something broke.
    """
    started_at = datetime.now(UTC)
    done: list[list[Done]] = [[] for _ in of_sizes]
    largest = of_sizes[-1]
    preflight.refuse(largest, log, chosen, folder)
    preflight.raise_open_files_limit(largest)
    with (
        open_place(chosen, largest, log, folder) as place,
        connected(place.database.conninfo) as connection,
    ):
        _news.info("one warm-up trial on the empty log")
        _carry_out(of_sizes[0], log, chosen, place, connection, folder, watch)
        for number in range(rounds):
            order = range(len(of_sizes)) if number % 2 == 0 else reversed(range(len(of_sizes)))
            for index in order:
                spec = of_sizes[index]
                _news.info("round %d of %d: %s events in the log", number + 1, rounds, f"{spec.preloaded:,}")
                done[index].append(_carry_out(spec, log, chosen, place, connection, folder, watch))
                if not done[index][-1].trial.verdict.ok:
                    break
            measured = [(spec, of_one) for spec, of_one in zip(of_sizes, done, strict=True) if of_one]
            record = TableSizes(
                run_id=folder.run_id,
                started_at=started_at,
                command=command,
                sizes=[trials.result_of(spec, log, folder.run_id, started_at, of_one) for spec, of_one in measured],
            )
            yield record
            if not record.ok:
                return


def _carry_out(
    spec: Spec, log: Log, chosen: ChosenPlace, place: Place, connection: Connection, folder: RunFolder, watch: Watch
) -> Done:
    began_at = time.time()
    with install.installed(connection, log, folder.run_id, stays=spec.dsn is not None):
        described = environment.describe(chosen.name, place.about, connection)
        return Done(described, carry_out_trial(spec, log, place, connection, watch, began_at))
