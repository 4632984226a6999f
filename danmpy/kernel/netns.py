"""Network namespaces: opening one by path and working inside it from a thread.

setns(2) moves only the calling thread, so the daemon needs no fork: it enters the pod's namespace,
opens its sockets there, works, and goes back. A thread that cannot go back must not serve another
pod, hence the abort.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from danmpy.errors import HostError, WireError

CLONE_NEWNET = 0x40000000
"""linux/sched.h."""

NETNS_CODE = 8
"""CNI library constant ErrInvalidNetNS; the specification's text does not name it."""

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.EACCES})
"""What says nothing about the namespace: a DEL that took it for gone would free addresses that
are still on a link."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetnsId:
    """What tells one network namespace from all others while it lives: nsfs device and inode."""

    device: int
    inode: int


def open_netns(path: str) -> int:
    """Open the namespace at `path`; the caller closes the file descriptor.

    Raises:
        WireError: code 8, when nothing is there or it is no namespace.
        HostError: this process may not, or has no file descriptor left.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _OURS:
            raise _refused(f"open network namespace {path}", error) from error
        raise WireError(
            f"network namespace {path} cannot be opened: {error.strerror}",
            hint="the sandbox is gone or CNI_NETNS is wrong; the runtime must make a new sandbox",
            code=NETNS_CODE,
        ) from error


def netns_id(fd: int) -> NetnsId:
    """The identity of the open namespace `fd`."""
    status = os.fstat(fd)
    return NetnsId(device=status.st_dev, inode=status.st_ino)


def netns_id_of(path: str) -> NetnsId:
    """The identity of the namespace at `path`.

    Raises:
        WireError: code 8, nothing is there.
    """
    found = read_netns_id(path)
    if found is None:
        raise WireError(
            f"network namespace {path} is gone",
            hint="the sandbox ended meanwhile; the runtime must make a new one",
            code=NETNS_CODE,
        )
    return found


def read_netns_id(path: str) -> NetnsId | None:
    """The identity of the namespace at `path`, or None when nothing is there."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return NetnsId(device=status.st_dev, inode=status.st_ino)


def require_other_than_home(path: str) -> None:
    """Refuse a namespace that is the node's own: a pod's links would be built on the node.

    Raises:
        WireError: code 8, as the reference plugins answer; or nothing is there.
    """
    if netns_id_of(path) == netns_id(_home_fd()):
        raise WireError(
            f"CNI_NETNS {path} is the node's own network namespace",
            hint="pods of the host network need no CNI call; the runtime must pass the sandbox's",
            code=NETNS_CODE,
        )


def _refused(what: str, error: OSError) -> HostError:
    return HostError(
        f"cannot {what}: {error.strerror}",
        hint="the node daemon runs as root, with its limit of open files raised (ulimit -n)",
    )


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Home:
    """The namespace that a thread was started in, open as long as the thread lives."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


_HOME: Final = "/proc/thread-self/ns/net"

_thread = threading.local()


def _home_fd() -> int:
    """This thread's own namespace, opened once a thread before it first leaves home."""
    home: _Home | None = getattr(_thread, "home", None)
    if home is None:
        try:
            home = _thread.home = _Home(os.open(_HOME, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise _refused("open the node's network namespace", error) from error
    return home.fd


@contextmanager
def inside(fd: int) -> Iterator[None]:
    """Let this thread work in the namespace `fd`, and bring it home afterwards.

    Raises:
        WireError: code 8, when `fd` is no network namespace.
        HostError: this process may not enter it.
    """
    home = _home_fd()
    try:
        _setns(fd)
    except OSError as error:
        if error.errno in _OURS:
            raise _refused("enter the pod's network namespace", error) from error
        raise WireError(
            f"CNI_NETNS is no network namespace: {error.strerror}",
            hint="the runtime must pass the path of a namespace made for this sandbox",
            code=NETNS_CODE,
        ) from error
    try:
        yield
    finally:
        try:
            _setns(home)
        except OSError:
            # A thread left in a pod's namespace would build the next pod's links there.
            os.abort()
