"""An ssh server of our own, on a free port, that lets us in by a key of our own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Path, int]]:
    """Serve ssh; yields a home folder whose ~/.ssh lets ssh in without asking, and the port."""
    folder.chmod(0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    (folder / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nAllowStreamLocalForwarding yes\n"
    )
    (folder / "config").write_text(
        f"Host *\nIdentityFile {folder}/user\nStrictHostKeyChecking no\nUserKnownHostsFile {folder}/known\n"
        f"User {getpass.getuser()}\nLogLevel ERROR\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "sshd does not listen"
                time.sleep(0.05)
        yield folder / "config", port
    finally:
        server.terminate()
        server.wait()
