"""Notices that the other end of an idle connection is gone, or the network to it."""

import socket


def keep_alive(line: socket.socket, seconds: int, probes: int) -> bool:
    """Have the system probe a connection that was silent for `seconds`, and end it after `probes` without an answer.

    Probes are `seconds` apart. Returns False, and does nothing, where no network is in between.
    """
    if line.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # Linux, macOS
    if idle is not None:
        line.setsockopt(socket.IPPROTO_TCP, idle, seconds)
    return True
