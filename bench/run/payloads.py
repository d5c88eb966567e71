"""The payloads that a spec asks for, with the objects of its file, which travel to workers in their jobs."""

import re
import zlib
from codecs import BOM_UTF8
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import msgspec

from bench.errors import UsageError
from bench.job import Payloads
from bench.padding import MOST_BITS, padding
from bench.spec import LARGEST_BATCH_BYTES, Spec

MOST_COMPRESSED_BYTES = 64 * 1024
"""A job is one environment variable, which Linux limits to 128 KiB (MAX_ARG_STRLEN); these are 4/3 as many characters
in it."""
MOST_OBJECTS = 10_000
"""Each object still comes ten times in the period of `bench.shapes`."""
_OWN_KEYS = ("producer", "seq", "value")
_NUMBERS_BYTES = 45
"""The keys of `_OWN_KEYS` with their numbers, roughly."""

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""An escape in a JSON string; half a surrogate pair without the other half is the group."""

_parse = msgspec.json.Decoder(dict[str, object]).decode


def payloads_of(spec: Spec) -> Payloads:
    """The payloads of a run, for the jobs of its workers.

    Raises:
        UsageError: the file of payloads cannot be used.
    """
    objects = zlib.compress(b"\n".join(_objects(spec.payload_file)), 9) if spec.payload_file else b""
    entropy = MOST_BITS if spec.payload_entropy is None else spec.payload_entropy
    return Payloads(tuple(spec.payload_sizes), entropy, objects, spec.seed)


def pad_of(spec: Spec) -> str:
    """The padding of a run's payloads, if all have one size, as long as a whole payload; empty without padding."""
    size, _ = spec.payload_sizes[0]
    return padding(size, MOST_BITS if spec.payload_entropy is None else spec.payload_entropy).decode()


def sizes_of(spec: Spec) -> list[tuple[int, float]]:
    """The sizes of payloads in bytes, each with its share in percent; 0 is a payload without padding.

    Raises:
        UsageError: the file of payloads cannot be used.
    """
    if spec.payload_file is None:
        return spec.payload_sizes
    objects = _objects(spec.payload_file)
    return [(len(text) + _NUMBERS_BYTES, 100 / len(objects)) for text in objects]


def fingerprint(spec: Spec) -> dict[str, str]:
    """The SHA-256 of the objects, by the key that a result stores it under; empty without a file."""
    if spec.payload_file is None:
        return {}
    return {"payload_sha256": sha256(b"\n".join(_objects(spec.payload_file))).hexdigest()}


def refuse_payload_file(spec: Spec) -> None:
    """Refuse a file of payloads that cannot be used, or that no job can carry.

    Raises:
        UsageError: the message names the line or the size.
    """
    if spec.payload_file is None:
        return
    compressed = len(payloads_of(spec).objects)
    if compressed > MOST_COMPRESSED_BYTES:
        raise UsageError(
            f"--payload-file {spec.payload_file}: a job carries at most {MOST_COMPRESSED_BYTES:,} bytes of compressed "
            f"objects, and these are {compressed:,}: keep fewer or shorter lines"
        )
    largest = max(size for size, _ in sizes_of(spec))
    for flag, events in (("insert-batch", spec.insert_batch), ("read-batch", max(spec.read_batch) * spec.depth)):
        if events * largest > LARGEST_BATCH_BYTES:
            raise UsageError(
                f"--{flag} {events} of up to {largest} bytes is more than {LARGEST_BATCH_BYTES // 2**20} MiB at once"
            )


@lru_cache(maxsize=1)
def _objects(file: Path) -> list[bytes]:
    """The objects of a file of JSON lines. The file is read once: all trials have the same objects.

    Raises:
        UsageError: the message names the line that cannot be used.
    """
    try:
        lines = file.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise UsageError(f"--payload-file {file}: {error.strerror}") from error
    objects = []
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            try:
                keys = _parse(text)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise UsageError(f"--payload-file {file}: line {number} {_problem(text, error)}") from error
            for own in _OWN_KEYS:
                if own in keys:
                    raise UsageError(
                        f"--payload-file {file}: line {number} has the key {own}, which is added to each event: "
                        "rename it"
                    )
            objects.append(text)
    if not 1 <= len(objects) <= MOST_OBJECTS:
        raise UsageError(f"--payload-file {file}: it has {len(objects):,} objects: give 1 to {MOST_OBJECTS:,}")
    return objects


def _problem(line: bytes, error: Exception) -> str:
    """A predicate for a line that could not be parsed: its fault, and what to do where that is not obvious."""
    if isinstance(error, RecursionError):
        return "has arrays or objects inside each other, too deep to be read: flatten them"
    if "out of range" in str(error):
        return "has a number out of range (integers of more than 4,300 digits, others beyond 1.8e308): write it as text"
    if lone := next((escape[1] for escape in _ESCAPE.finditer(line) if escape[1]), None):
        return f"has \\{lone.decode()}, which is half a surrogate pair: write both halves, or remove it"
    return f"is not a JSON object: {error}"
