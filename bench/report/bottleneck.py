"""Puts the bottleneck of a phase into words."""

from bench.results.costs import Bottleneck, CauseShare, Observed

OTHERS = 3
"""At most this many causes are named after the first."""
SMALL_SHARE = 0.03
"""Causes with a smaller share of the backends' time are not named."""

WORDS = {
    "client": "client-bound",
    "cpu": "Postgres's CPU",
    "client_statement": "waiting for the client",
    "client_fetch": "clients that take their rows slowly",
    "table_read": "reading the table from disk",
    "temporary_files": "temporary files",
    "control_file": "the control file",
    "table_extension": "extending the table",
    "table_write": "writing the table to disk",
    "transaction_status_files": "files of transaction states",
    "prepared_transaction_files": "files of prepared transactions",
    "wal_files": "new WAL files",
    "wal_flush": "WAL flush",
    "wal_read": "reading WAL",
    "io": "reading or writing other files",
    "index_split": "another session that splits an index page",
    "page_io": "another session that reads or writes the same page",
    "checkpoint": "a checkpoint",
    "running_transactions": "the list of running transactions",
    "standby": "a standby's acknowledgement",
    "transaction_status": "the states of transactions",
    "ipc": "another process of Postgres",
    "read_queue": "the queue of reads from disk",
    "page_contention": "several sessions on one page",
    "buffer_cache": "the buffer cache",
    "commit_timestamps": "commit timestamps",
    "lock_table": "the table of locks",
    "multixact": "rows that several transactions lock",
    "notify_queue": "the queue of NOTIFY",
    "object_ids": "OID generation",
    "statistics": "Postgres's own statistics",
    "serializable_checks": "checks of serializable transactions",
    "replication_slots": "replication slots",
    "invalidation": "cache invalidation",
    "prepared_transactions": "prepared transactions",
    "wal_buffers": "WAL buffers",
    "wal_insertion": "WAL insertion",
    "transaction_ids": "transaction id generation",
    "lwlock": "another lock inside Postgres",
    "advisory_lock": "an advisory lock",
    "object_lock": "a lock on an object, such as the queue of NOTIFY",
    "page_lock": "a lock on an index page",
    "table_lock": "a table lock",
    "same_key": "another session that inserts the same key",
    "transaction_end": "waiting for another transaction",
    "row_lock": "a row lock",
    "lock": "another lock",
    "pg_sleep": "pg_sleep",
    "spinlock": "a spinlock inside Postgres",
    "vacuum_delay": "vacuum's own pauses",
    "timeout": "a pause of Postgres's own",
    "buffer_pin": "a page that another session uses",
    "extension": "an extension",
    "peer": "another program or server",
    "activity": "idle processes of Postgres",
}
"""Causes by their names in a result."""


def sentence(observed: Observed) -> str | None:
    """The bottleneck of a phase in a sentence; None when the phase was too short to see it."""
    main = observed.bottleneck
    if main is None:
        return observed.bottleneck_sentence
    if main.worker is not None:
        return f"{_cause(main)}: {main.worker} used {main.share:.0%} of a core"
    busy = f", {main.busy_cores:.1f} cores busy" if main.cause == "cpu" and main.busy_cores is not None else ""
    others = [f"{_cause(each)} {each.share:.0%}" for each in main.others[:OTHERS] if each.share >= SMALL_SHARE]
    then = f"; then {', '.join(others)}" if others else ""
    return f"{_cause(main)}: {main.share:.0%} of the backends' time{busy}{then}"


def main_cause(observed: Observed) -> str | None:
    """The cause that set the pace of a phase, in a few words; None when the phase was too short to see it."""
    if observed.bottleneck is not None:
        return _cause(observed.bottleneck)
    # A sentence of bench.result/1 begins with the cause and a colon.
    return observed.bottleneck_sentence and observed.bottleneck_sentence.partition(":")[0]


def _cause(cause: Bottleneck | CauseShare) -> str:
    """A cause in words, with the name of its wait event where the words are for several."""
    if cause.cause not in WORDS:
        return cause.event or cause.cause
    return WORDS[cause.cause] + (f" ({cause.event.partition(':')[2]})" if cause.event else "")
