"""The user's output: files that are written whole or not at all, and two streams whose failure never ends a run.

A disk may be full, a reader may be gone, a terminal may know ASCII only. None of this may cost a measured result.
"""

import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import InfrastructureError, UsageError

STDOUT = Path("-")
"""The name of a file that stands for standard output."""


def write(file: Path, content: str | bytes) -> Path:
    """Write a file whole, or leave it as it was. Its folder is made if it does not exist.

    A file that is not an ordinary one, such as a pipe, is written to directly.

    Raises:
        InfrastructureError: the file cannot be written.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    try:
        target = file.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return file
        with _folder(target.parent):
            _replace(target, data)
    except OSError as error:
        raise InfrastructureError(f"{file} cannot be written: {error.strerror or error}") from error
    return file


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder if it does not exist, and remove it again if the `with` fails."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _replace(target: Path, data: bytes) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            unfinished.chmod(stat.S_IMODE(target.stat().st_mode))
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def refuse_unwritable(flag: str, file: Path | None) -> None:
    """Refuse a file that could not be written later, before there is anything to write.

    Raises:
        UsageError: its folder does not exist or takes no files, or the file is a folder or write-protected.
    """
    if file is None or file == STDOUT:
        return
    if file.is_dir():
        raise UsageError(f"{flag} {file} cannot be written: it is a folder; name a file")
    if file.exists() and not os.access(file, os.W_OK):
        raise UsageError(f"{flag} {file} cannot be written: you have no permission; name another file")
    if file.exists() and not file.is_file():
        return
    if not file.absolute().parent.is_dir():
        raise UsageError(
            f"{flag} {file} cannot be written: its folder does not exist; make the folder, or name another"
        )
    _try(flag, file.resolve().parent)


def refuse_unusable(flag: str, folder: Path) -> None:
    """Make a folder for results if it does not exist, and refuse a folder that takes no files.

    Raises:
        UsageError: the folder cannot be made, or takes no files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag} {folder} cannot be made: {error.strerror}; name another folder") from error
    _try(flag, folder)


def _try(flag: str, folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise UsageError(f"{flag}: {folder} takes no files: {error.strerror}; name another folder") from error


class _Sink(io.RawIOBase):
    """A file descriptor whose writes never fail: after the first error, everything is dropped."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.failed: OSError | None = None
        """The first error; from then on output is lost."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        with memoryview(data) as view:
            if self.failed is None:
                try:
                    return os.write(self._number, view)
                except OSError as error:
                    self.failed = error
            return len(view)


_sinks: dict[str, _Sink] = {}


def secure_streams() -> None:
    """Make stdout and stderr accept everything: a character outside of their encoding is written as its number, and
    output that cannot be written, because a disk is full or a reader is gone, is lost without ending the command.
    """
    closed: set[int] = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened would get this number
            os.open(os.devnull, os.O_RDWR)
            closed.add(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        sink = _sinks[name] = _Sink(number)
        if number in closed:
            sink.failed = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(sink),
                encoding=stream.encoding if stream else "utf-8",
                errors="backslashreplace",
                line_buffering=name == "stderr" or os.isatty(number),
            ),
        )


def lost_output() -> str | None:
    """Why standard output is incomplete; None when it is complete, or when its reader closed it."""
    failed = _failed()
    if failed is None or failed.errno == errno.EPIPE:
        return None
    return failed.strerror or str(failed)


def is_output_cut_short() -> bool:
    """Whether standard output is incomplete, for whatever reason: its end may never have been read."""
    return _failed() is not None


def _failed() -> OSError | None:
    sys.stdout.flush()
    return _sinks["stdout"].failed if "stdout" in _sinks else None
