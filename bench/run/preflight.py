"""Refuses what cannot be run before anything is started."""

import os
import resource

from bench.errors import InfrastructureError, UsageError
from bench.eventlog import Log, load, shipped
from bench.places.rundir import RunFolder
from bench.postgres.connection import Connection
from bench.postgres.open_transactions import can_prepare
from bench.postgres.settings import alike
from bench.run.disk import disk_bytes
from bench.run.payloads import refuse_payload_file
from bench.run.place import ChosenPlace
from bench.spec import Spec
from bench.wire import is_unencrypted

FILES_PER_WORKER = 4
"""A worker's two outputs as pipes, or its stream from the engine while the worker is being started."""
SPARE_FILES = 64


def refuse_misfits(spec: Spec, log: Log) -> None:
    """Refuse a spec that does not fit its log.

    Raises:
        UsageError: the message names the flag and what the log allows.
    """
    for name, value in spec.set.items():
        if name.lower() == "default_transaction_read_only" and alike(value, "on", "bool", None):
            raise UsageError(f"--set {name}={value}: nothing can be appended when sessions are read-only")
    if spec.append not in log.append:
        raise UsageError(f"--append {spec.append}: the log {log.name} supports {', '.join(log.append)}")
    if spec.group and log.group == "no":
        able = [name for name in shipped() if load(name).group != "no"]
        raise UsageError(
            f"--group: sessions cannot share a reading of the log {log.name}: name a log that allows it, of those that "
            f"ship {', '.join(able)}"
        )
    if spec.cursor == "client" and log.group not in {"turns", "partitions"}:
        able = [name for name in shipped() if load(name).group in {"turns", "partitions"}]
        raise UsageError(
            f"--cursor client: the log {log.name} keeps no cursors of named clients: name a log that does, of those "
            f"that ship {', '.join(able)}"
        )
    if spec.retention and not log.passed:
        able = [name for name in shipped() if load(name).passed]
        raise UsageError(
            f"--retention: log.toml of the log {log.name} does not say which rows its readers have passed (passed): "
            f"name a log that does, of those that ship {', '.join(able)}"
        )
    if spec.preloaded and not log.promises.replay:
        raise UsageError(
            f"--preload: the log {log.name} can be read once only, so events that were read before the run are gone "
            "from it; leave --preload out, or name another log"
        )
    if not log.promises.replay and (spec.consumers > 1 or len(spec.read_batch) > 1):
        raise UsageError(
            f"the log {log.name} can be read once only: give one --read-batch and one of --consumers"
            + ("" if log.group == "no" else ", or a --group")
        )


def refuse_depth(spec: Spec, connection: Connection) -> None:
    """Refuse reads that are sent together over an encrypted connection: there libpq sends one at a time.

    Raises:
        UsageError: the connection is encrypted, and --depth is more than 1.
    """
    if spec.depth > 1 and not is_unencrypted(connection):
        raise UsageError(
            f"--depth {spec.depth}: this connection is encrypted, and there reads are sent one at a time: "
            "leave --depth out, or connect without encryption (sslmode=disable)"
        )


def refuse_unpreparable(spec: Spec, connection: Connection) -> None:
    """Refuse a phase with a prepared transaction on a server that allows none.

    Raises:
        UsageError: the message names the phase and the setting.
    """
    for number, phase in enumerate(spec.phase, 1):
        if phase.open_transaction == "prepared" and not can_prepare(connection):
            raise UsageError(
                f'phase {number} open-transaction "prepared": this server allows no prepared transactions: raise its '
                "max_prepared_transactions above 0, or choose another kind"
            )


def free_bytes(chosen: ChosenPlace, spec: Spec, folder: RunFolder) -> int | None:
    """Return the free disk where the log will be; None when that cannot be seen from here."""
    if spec.dsn or spec.postgres_node:
        return None
    if chosen.name != "local":
        from bench.places.docker import address, engine  # noqa: PLC0415

        return engine.free_bytes(address.connect())
    space = os.statvfs(folder.path)
    return space.f_bavail * space.f_frsize


def refuse_full_disk(chosen: ChosenPlace, spec: Spec, folder: RunFolder) -> None:
    """Refuse a run whose log does not fit on the disk; where the free disk cannot be seen, nothing is refused.

    Raises:
        InfrastructureError: the run needs more disk, by estimate, than is free.
    """
    free, needed = free_bytes(chosen, spec, folder), disk_bytes(spec)
    if free is not None and needed > free:
        known = None if spec.events is None else spec.events + spec.preloaded
        needs = "a run by time needs at least" if known is None else f"{known:,} events need about"
        raise InfrastructureError(
            f"{needs} {needed / 2**30:,.1f} GiB of disk, {free / 2**30:,.1f} GiB are free: "
            "append fewer, or name a larger disk with TMPDIR (local place) or Docker's data-root (docker place)"
        )


def refuse_few_open_files(chosen: ChosenPlace, spec: Spec) -> None:
    """Refuse a run that needs more open files than this process may ever have.

    Raises:
        InfrastructureError: the message names the number that the run needs.
    """
    needed = _open_files(spec)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise InfrastructureError(
            f"{spec.workers} workers need {needed} open files in the {chosen.name} place and {hard} are allowed: "
            f"ulimit -n {needed} raises that, or give a smaller --scale"
        )


def raise_open_files_limit(spec: Spec) -> None:
    """Let this process, and what it starts, open as many files as a run needs that was not refused."""
    needed = _open_files(spec)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _open_files(spec: Spec) -> int:
    return SPARE_FILES + spec.workers * FILES_PER_WORKER


def refuse_few_nodes(chosen: ChosenPlace, spec: Spec) -> None:
    """Refuse more workers than --max-per-node allows on the nodes of the swarm that are up.

    Raises:
        UsageError: the message names the largest number that is allowed.
    """
    if chosen.name != "swarm" or spec.max_per_node is None:
        return
    from bench.places.docker import address  # noqa: PLC0415
    from bench.places.swarm import cluster  # noqa: PLC0415

    up = sum(node.is_up for node in cluster.nodes(address.connect()).values())
    most = up * spec.max_per_node
    for flag, workers in (("--scale", spec.scale), ("--group" if spec.group else "--consumers", spec.readers)):
        if workers > most:
            raise UsageError(
                f"{flag} {workers} is more than --max-per-node {spec.max_per_node} allows on {up} nodes: {most}"
            )


def refuse(spec: Spec, log: Log, chosen: ChosenPlace, folder: RunFolder) -> None:
    """Refuse a spec that cannot be run here, before anything is started.

    Raises:
        BenchError: the message says what is in the way.
    """
    refuse_misfits(spec, log)
    refuse_payload_file(spec)
    refuse_few_nodes(chosen, spec)
    refuse_few_open_files(chosen, spec)
    refuse_full_disk(chosen, spec, folder)
