"""Files of payloads: what is refused before anything starts, and what a job carries."""

import os
import zlib
from bisect import bisect
from pathlib import Path

import pytest

from bench import eventlog
from bench.errors import UsageError
from bench.job import echo, encode_job
from bench.records import Ready, encode_record
from bench.run.disk import disk_bytes
from bench.run.jobs import consumers, producers
from bench.run.payloads import MOST_COMPRESSED_BYTES, MOST_OBJECTS, payloads_of, refuse_payload_file
from bench.spec import Spec
from bench.specfile import make

BIGSERIAL = eventlog.load("bigserial")
RECORD_BYTES = 16 << 10
MAX_ARG_STRLEN = 128 << 10
"""The longest environment variable of Linux."""


def written(folder: Path, text: str | bytes) -> Spec:
    file = folder / f"{os.urandom(4).hex()}.jsonl"  # a file is read once
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return make({"payload_file": file}, None)


def test_objects_travel_in_the_jobs_without_blank_lines(tmp_path: Path) -> None:
    spec = written(tmp_path, '{"kind": "a"}\n\n  {"kind": "b", "deep": {"seq": [1]}}\r\n{}\n')
    refuse_payload_file(spec)
    objects = payloads_of(spec).objects
    assert zlib.decompress(objects).splitlines() == [b'{"kind": "a"}', b'{"kind": "b", "deep": {"seq": [1]}}', b"{}"]
    assert {job.payloads.objects for job in producers(spec, BIGSERIAL)} == {objects}
    assert {job.payloads.objects for job in consumers(spec, BIGSERIAL, 10)} == {objects}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 objects"),
        ("\n \n", "has 0 objects"),
        ('{"a": 1}\n[1]', "line 2 is not a JSON object"),
        ('{"a": 1}\n\n{"a": 1', "line 3 is not a JSON object"),
        ('{"a": 1}, {"b": 1}', "line 1 is not a JSON object"),
        (b'{"a": "\xff"}', "line 1 is not a JSON object"),
        ("[" * 100_000, "line 1 is not a JSON object"),
        ('{"a": 1}\n{"a": 1e400}', "line 2 has a number out of range"),
        (f'{{"a": {"1" * 5_000}}}', "line 1 has a number out of range"),
        (f'{{"a": {"[" * 3_000}{"]" * 3_000}}}', "line 1 has arrays or objects inside each other"),
        ('{"a": "\\ud800"}', r"line 1 has \\ud800, which is half a surrogate pair"),
        ('{"a": "\\ud83d\\ude00 \\\\ud800 \\udE00."}', r"line 1 has \\udE00, which is half a surrogate pair"),
        ('{"a": "\\\\ud800"', "line 1 is not a JSON object"),
        ('{"a": 1}\n{"seq": 1}', "line 2 has the key seq"),
        ('{"producer": null}', "line 1 has the key producer"),
        ("{}\n" * 10_001, "has 10,001 objects"),
        (f'{{"a": "{os.urandom(MOST_COMPRESSED_BYTES).hex()}"}}', "a job carries at most 65,536 bytes"),
        (f'{{"a": "{"a" * 1_000_000}"}}', "--insert-batch 10000 of up to"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_payload_file(written(tmp_path, text))


def test_a_byte_order_mark_begins_a_file_and_is_in_no_object(tmp_path: Path) -> None:
    spec = written(tmp_path, '\ufeff{"kind": "a"}\n{"kind": "\\ud83d\\ude00"}')
    refuse_payload_file(spec)
    objects = [b'{"kind": "a"}', b'{"kind": "\\ud83d\\ude00"}']
    assert zlib.decompress(payloads_of(spec).objects).splitlines() == objects


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        refuse_payload_file(make({"payload_file": tmp_path / "none"}, None))


def test_the_largest_file_fits_into_a_job_and_its_echo_into_a_record(tmp_path: Path) -> None:
    lines = [f'{{"a": "{os.urandom(10).hex()}"}}' for _ in range(MOST_OBJECTS)]
    fit = bisect(
        range(len(lines)),
        MOST_COMPRESSED_BYTES,
        key=lambda most: len(zlib.compress("\n".join(lines[:most]).encode(), 9)),
    )
    assert fit < len(lines)
    text = "\n".join(lines[: fit - 1])
    spec = written(tmp_path, text).model_copy(
        update={"mode": "tail", "abort_rate": 0.1, "pause": (0, 100), "rate": "1000:60s," * 20 + "1"}
    )
    refuse_payload_file(spec)
    session = dict.fromkeys("abcdefg", "x" * 250)
    for name in eventlog.shipped():
        log = eventlog.load(name)
        for job in (producers(spec, log)[0], consumers(spec, log, 10)[0]):
            assert len(encode_record(Ready(1 / 3, 1 / 3, echo(job), session))) < RECORD_BYTES
            assert len(encode_job(job)) < MAX_ARG_STRLEN


def test_the_estimate_of_disk_weighs_sizes_by_their_shares(tmp_path: Path) -> None:
    def of(sizes: str) -> int:
        return disk_bytes(make({"scale": 1, "limit": 10**6, "payload_bytes": sizes, "insert_batch": 100}, None))

    assert of("200:50%,600:50%") == pytest.approx((of("200") + of("600")) / 2, rel=1e-6)
    assert of("200:99%,600:1%") < of("200:90%,600:10%")
    spec = written(tmp_path, f'{{"a": "{"x" * 150}"}}\n{{"a": "{"y" * 550}"}}')
    file = disk_bytes(spec.model_copy(update={"scale": 1, "limit": 10**6}))
    assert file == pytest.approx(of("200:50%,600:50%"), rel=0.1)
