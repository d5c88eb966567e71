"""The two sides of `bench ab`: from its flags to a spec and a log for each."""

import subprocess
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench import eventlog, specfile
from bench.errors import UsageError
from bench.eventlog import Log
from bench.flags import RESULTS, Flag, ResultsFolder, Share, flag_name
from bench.gate import power
from bench.gate.compare import MarkdownFile
from bench.gate.regression import MIN_TRIALS
from bench.run import place
from bench.run.place import ChosenPlace
from bench.spec import Spec

_NOT_FOR_SIDES = {"trials", "warm_up", *specfile.OutputOptions.model_fields}


class Options(BaseModel):
    """The flags of `bench ab` but for its rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
    groups: ClassVar = {"The two sides": "a", "How many trials": "max_trials", "Options": "output"}
    """As in `Spec`."""

    a: Annotated[str, Flag("FLAGS")] = ""
    """Flags of `bench run` for side a, in quotes, or a spec's TOML file."""
    b: Annotated[str, Flag("FLAGS")] = ""
    """Flags or TOML file for side b."""
    both: Annotated[str, Flag("FLAGS")] = ""
    """Flags or TOML file for both sides."""
    a_rev: Annotated[str | None, Flag("REV")] = None
    """Take side a's log from this git revision of its folder."""
    b_rev: Annotated[str | None, Flag("REV")] = None
    """Take side b's log from this git revision of its folder."""
    aa: bool = False
    """Run side a against itself, to measure this machine's noise and what the gate makes of it."""
    max_trials: Annotated[int, Field(ge=MIN_TRIALS, le=1000)] = 50
    """Stop after this number of trials per side."""
    precision: Annotated[Share, Flag("SHARE", default="4%")] = 0.04
    """Stop once every rate's 95 % interval reaches no further than this share to either side."""
    comparisons: Annotated[int, Field(ge=10, le=100_000)] = power.COMPARISONS
    """With --aa: number of comparisons to simulate."""
    output: ResultsFolder = RESULTS
    export_markdown: MarkdownFile = None

    @model_validator(mode="after")
    def _sides_are_to_differ(self) -> Self:
        if self.aa and (self.b or self.b_rev):
            raise ValueError("--aa runs side a against itself: leave --b and --b-rev out")
        if not (self.aa or self.a or self.b or self.both or self.a_rev or self.b_rev):
            raise ValueError("both sides are the same: give --b or --b-rev, or --aa to measure this machine's noise")
        return self

    @property
    def stop_at(self) -> float:
        """The precision at which trials stop; 0, which they never reach, with --aa."""
        return 0 if self.aa else self.precision

    @property
    def texts(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """For each side, the flag that holds the flags that only this side has, and its text."""
        a = ("--a", self.a)
        return a, a if self.aa else ("--b", self.b)

    @property
    def revisions(self) -> tuple[str | None, str | None]:
        """The git revision of each side's log."""
        return self.a_rev, self.a_rev if self.aa else self.b_rev


class Arm(NamedTuple):
    """One side: the spec and the log that it runs."""

    spec: Spec
    log: Log


def arms(
    given: Sequence[tuple[dict[str, Any], Path | None]], revisions: Sequence[str | None], folder: Path
) -> tuple[Arm, Arm]:
    """Make both sides from the flags of `bench run` and the spec file that each was given; logs of a git revision are
    copied into `folder`.

    Raises:
        UsageError: the flags, the log or the revision of a side cannot be used.
    """
    a, b = (_arm(flags, file, revision, folder) for (flags, file), revision in zip(given, revisions, strict=True))
    return a, b


def choose(sides: tuple[Arm, Arm]) -> ChosenPlace:
    """Choose the place that both sides run in.

    Raises:
        UsageError: the sides would run in different places, or on one database.
        InfrastructureError: the place is not available.
    """
    of_a, of_b = (place.choose(arm.spec) for arm in sides)
    if of_a.name != of_b.name:
        raise UsageError(f"side a would run in place {of_a.name} and side b in {of_b.name}; choose one with --place")
    if sides[0].spec.dsn and sides[0].spec.dsn == sides[1].spec.dsn:
        raise UsageError("--dsn: both sides name one database, which takes one run at a time; give each its own")
    return of_a


def at_revision(log_folder: str, revision: str, into: Path) -> str:
    """Copy a log's folder, as it was at a git revision, to a folder in `into`; returns the copy's path.

    Raises:
        UsageError: the log is not a folder in a git repository, or the revision or the folder in it does not exist.
    """
    folder = Path(log_folder).resolve()
    if not folder.is_dir():
        raise UsageError(f"--log {log_folder}: not a folder; git revisions need the folder of a log in a repository")
    archived = subprocess.run(
        ["git", "-C", str(folder), "archive", "--format=tar", revision, "."],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if archived.returncode:
        complaint = archived.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"revision {revision} of {log_folder}: {complaint[-1] if complaint else 'git archive failed'}")
    target = into / revision.replace("/", "_") / folder.name
    with tarfile.open(fileobj=BytesIO(archived.stdout)) as archive:
        archive.extractall(target, filter="data")
    return str(target)


def _arm(flags: dict[str, Any], file: Path | None, revision: str | None, folder: Path) -> Arm:
    taken = sorted(_NOT_FOR_SIDES & flags.keys())
    if taken:
        raise UsageError(f"{flag_name(taken[0])}: not a flag for one side; leave it out of --a, --b and --both")
    asked = specfile.make({**flags, "trials": 1}, file)
    if asked.pause:
        raise UsageError("--pause: not a flag for one side, because a run with pauses has no speed; leave it out")
    if asked.is_search:
        raise UsageError("--rate find: not a flag for one side, because no two searches offer the same; give a rate")
    if revision:
        asked = asked.model_copy(update={"log": at_revision(asked.log, revision, folder)})
    return Arm(asked, eventlog.load(asked.log))
