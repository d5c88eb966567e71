"""Explores logs: carries out all orders of small scopes, judges each, and minimises the first of each kind of fault."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

from bench.errors import UsageError
from bench.eventlog import Log
from bench.explore import breakpoints, data, effects, machine
from bench.explore.carried import Carried, Delivery, Part, event_of
from bench.explore.independence import Independence
from bench.explore.judging import Finding, finding
from bench.explore.machine import Machine
from bench.explore.models import Counterexample, Exploration, ExploredLog, ExploredScope, Settings, Step
from bench.explore.scope import Scope, Statement, scopes
from bench.explore.script import psql_script
from bench.explore.search import Search
from bench.explore.sessions import Explorer
from bench.explore.shrink import order_of, replayed, shrunk
from bench.kinds import KINDS
from bench.places import rundir
from bench.postgres.connection import Connection, connected, in_words, pinned
from bench.postgres.install import installed
from bench.results.environment import Environment
from bench.results.store import new_run_id
from bench.run import environment
from bench.run.place import ChosenPlace, open_place
from bench.spec import Spec
from bench.text import plural

_news = logging.getLogger("bench")

_SETTINGS = {
    # Nothing is measured, and nothing has to survive a crash.
    "fsync": "off",
    "full_page_writes": "off",
    # Autovacuum changes plans from one order to the next, and its transactions make logs hold events back.
    "autovacuum": "off",
    "deadlock_timeout": "20ms",
    "max_prepared_transactions": "10",
}


def explore(
    logs: Mapping[str, Log],
    settings: Settings,
    base: Spec,
    chosen: ChosenPlace,
    command: str,
    keep: Callable[[Exploration], None],
) -> None:
    """Explore logs one at a time, at the place of `base`; `keep` gets the exploration so far after each scope.

    Raises:
        UsageError: none of the logs can be installed.
        InfrastructureError: something broke that is not part of a log.
    """
    run_id, started_at = new_run_id(), datetime.now(UTC)
    about: Environment | None = None
    explored: list[ExploredLog] = []

    def keep_with(log: ExploredLog) -> None:
        if about:
            keep(
                Exploration(
                    run_id=run_id,
                    started_at=started_at,
                    command=command,
                    environment=about,
                    settings=settings,
                    logs=[*explored, log],
                )
            )

    for number, log in enumerate(logs.values(), 1):
        _news.info("%s, log %d of %d", log.name, number, len(logs))
        spec = base.model_copy(update={"log": log.name, "set": {} if base.dsn else _SETTINGS})
        with rundir.opened(new_run_id()) as folder:
            try:
                with open_place(chosen, spec, log, folder) as place, connected(place.database.conninfo) as connection:
                    about = about or environment.describe(chosen.name, place.about, connection)
                    conninfo = pinned(connection, place.database.conninfo)
                    explored.append(explore_log(log, settings, connection, conninfo, folder.run_id, keep_with))
            except UsageError as error:
                if len(logs) == 1:
                    raise
                failed = ExploredLog(log=log.name, promises=log.promises, failure=str(error))
                keep_with(failed)
                explored.append(failed)
    if all(log.failure for log in explored):
        raise UsageError("no log could be explored: " + "; ".join(f"{log.log}: {log.failure}" for log in explored))


def explore_log(
    log: Log,
    settings: Settings,
    connection: Connection,
    conninfo: str,
    run_id: str,
    keep: Callable[[ExploredLog], None],
) -> ExploredLog:
    """Explore a log on a server; `keep` gets the exploration of the log so far after each scope."""
    with ExitStack() as stack:
        stack.enter_context(installed(connection, log, run_id))
        independence = effects.independence_of(connection, log)
        stops = stack.enter_context(breakpoints.installed(connection, log))
        out_of_reach = breakpoints.out_of_reach(connection, log)
        saved = data.noted(Explorer(connection))
        planned = list(scopes(log, settings.writers, settings.bystander))
        if not data.can_lengthen_ids(Explorer(connection)):
            planned = [scope for scope in planned if not scope.longer_ids]
            _news.info("  longer transaction ids are not tried: the next digit is more than 20,000 transactions away")
        explored: list[ExploredScope] = []
        counterexamples: list[Counterexample] = []
        began = time.monotonic()
        for number, scope in enumerate(planned):
            left = settings.seconds - (time.monotonic() - began)
            with machine.opened(log, scope, conninfo, connection, saved) as opened:
                seconds = left / (len(planned) - number)
                done, examples = _explored_scope(opened, settings, independence, seconds, stops)
            explored.append(done)
            known = {(tuple(each.kinds), each.promised) for each in counterexamples}
            counterexamples += [each for each in examples if (tuple(each.kinds), each.promised) not in known]
            so_far = ExploredLog(
                log=log.name,
                promises=log.promises,
                out_of_reach=out_of_reach,
                scopes=list(explored),
                unexplored=[each.name for each in planned[number + 1 :]],
                counterexamples=sorted(counterexamples, key=lambda each: (not each.promised, each.steps)),
            )
            keep(so_far)
            _news.info("  %s: %s in %.1f s", scope.name, plural(done.orders, "order"), done.seconds)
            if any(each.promised for each in counterexamples):
                break  # one is enough to know
        return so_far


def _explored_scope(
    opened: Machine, settings: Settings, independence: Independence, seconds: float, stops: str
) -> tuple[ExploredScope, list[Counterexample]]:
    """Carry out the orders of a scope, at least one, until `seconds` are over or an order breaks a promise."""
    log, scope = opened.log, opened.scope
    most = settings.preemptions if scope.inside else None
    footprint = independence.of_client() if scope.client else independence
    search = Search(opened, scope.programs, most, settings.seed, footprint)
    began = time.monotonic()
    failing: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    first: dict[tuple[tuple[str, ...], bool], Carried] = {}

    def is_over() -> bool:
        return search.carried_out > 0 and (scope.longer_ids or time.monotonic() - began > seconds)

    for carried in search.orders(is_over):
        wrong = finding(log, scope, carried)
        if wrong is None:
            costs.update(_costs(scope, carried))
        else:
            failing[", ".join(wrong.kinds)] += 1
            first.setdefault((wrong.kinds, wrong.promised), carried)
            if wrong.promised:
                break
    took = time.monotonic() - began
    complete_below = None if scope.longer_ids else search.preemptions
    done = ExploredScope(
        name=scope.name,
        programs={program.name: list(map(_statement_text, program.statements)) for program in scope.programs},
        inside=scope.inside,
        orders=search.carried_out,
        equivalent=search.equivalent,
        orders_at_most=scope.orders,
        complete=complete_below is None,
        preemptions=None if complete_below in {None, 0} else (complete_below or 0) - 1,
        most_preemptions=most if search.left_out else None,
        impossible=search.impossible,
        failing=dict(failing),
        writers_waited=costs["writers_waited"],
        readers_waited=costs["readers_waited"],
        held_back=costs["held_back"],
        seconds=round(took, 3),
    )
    examples = [_counterexample(opened, carried, stops) for carried in first.values()]
    return done, [each for each in examples if each]


def _statement_text(statement: Statement) -> str:
    return f"append {statement.events}" if statement.kind == "append" else statement.kind


def _costs(scope: Scope, carried: Carried) -> Iterator[str]:
    """The costs of an order without a fault, by the names of the counts."""

    def waits(*, readers: bool) -> bool:
        return any(
            (part.end == "waits" or part.stop == breakpoints.SLEEP)
            and scope.programs[part.session].is_reader is readers
            for part in carried.parts
        )

    if waits(readers=False):
        yield "writers_waited"
    if waits(readers=True):
        yield "readers_waited"
    if any(part.held_back for part in carried.parts):
        yield "held_back"


def _counterexample(opened: Machine, carried: Carried, stops: str) -> Counterexample | None:
    """Minimise a failing order, carry it out once more, and describe it; None when it has no fault."""
    log, scope = opened.log, opened.scope
    seen = finding(log, scope, carried)
    if seen is None:
        return None

    def alike(other: Carried) -> Finding | None:
        wrong = finding(log, scope, other)
        return wrong if wrong and wrong.promised is seen.promised and set(wrong.kinds) & set(seen.kinds) else None

    order, again, wrong = order_of(scope.programs, carried), carried, alike(carried)
    if not scope.longer_ids:  # each repetition would have to wait for another digit
        order = shrunk(opened, order, lambda other: alike(other) is not None)
        again = replayed(opened, order)
        wrong = alike(again)
    if wrong is None:  # the fault depends on more than the order, so the order is recorded as it was first seen
        order, again, wrong = order_of(scope.programs, carried), carried, seen
    etags = {
        f"{event[0]}.{event[1]}": etag
        for etag, payload in again.stored
        if etag is not None and (event := event_of(payload))
    }
    title = f"{log.name}: {', '.join(wrong.kinds)} in {len(order.steps)} steps"
    return Counterexample(
        scope=scope.name,
        kinds=list(wrong.kinds),
        promised=wrong.promised,
        counts={kind: getattr(wrong.verdict, kind) for kind in KINDS if getattr(wrong.verdict, kind)},
        examples=[f"{fault.producer}.{fault.seq}" for fault in wrong.verdict.examples if fault.kind in wrong.kinds],
        steps=len(order.steps),
        sessions=[program.name for program in order.programs if program.statements or program.is_reader],
        failures=[f"{scope.programs[number].name}: {in_words(error)}" for number, error, _ in again.failures],
        trace=[_step(scope, part) for part in _merged(again.parts)],
        read_on={scope.programs[number].name: _events(given) for number, given in again.read_on.items()},
        etags=etags,
        sql=psql_script(log, scope, again, stops, title),
    )


def _merged(parts: Sequence[Part]) -> list[Part]:
    """The parts; consecutive parts of one statement become one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last and (last.session, last.statement) == (part.session, part.statement) and last.end == "stops":
            merged[-1] = replace(part, begins=last.begins, woken_by=last.woken_by)
        else:
            merged.append(part)
    return merged


def _step(scope: Scope, part: Part) -> Step:
    names = [program.name for program in scope.programs]
    return Step(
        session=names[part.session],
        kind=part.kind,
        sql=part.text,
        begins=part.begins,
        end=part.end,
        stop=part.stop,
        waits_for=[names[each] for each in part.waits_for],
        woken_by=names[part.woken_by] if part.woken_by is not None and part.woken_by < len(names) else None,
        failure=part.failure,
        events=[f"{producer}.{seq}" for producer, seq in part.events],
        etags=list(part.etags),
    )


def _events(given: Sequence[Delivery]) -> list[str]:
    return [f"{event[0]}.{event[1]}" if (event := event_of(each.payload)) else "no event" for each in given]
