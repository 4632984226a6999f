"""The network namespace of an attachment: entered only while it is the one that it was made in.

The path of a sandbox that is gone may lead to a later one, which is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from danmpy.attach.journal import AttachmentRecord
from danmpy.errors import WireError
from danmpy.kernel.netns import read_netns_id
from danmpy.kernel.podnet import PodNet, enter_pod


def is_there(record: AttachmentRecord) -> bool:
    """Is the namespace of `record` still at its path, as far as that shows from outside?"""
    return bool(record.netns) and read_netns_id(record.netns) == record.made_in


@contextmanager
def enter_sandbox(record: AttachmentRecord) -> Iterator[PodNet | None]:
    """The pod of `record`; None when its namespace is gone or another one is in its place.

    Raises:
        HostError: this process cannot look into it.
    """
    with ExitStack() as stack:
        yield _entered(record, stack)


def _entered(record: AttachmentRecord, stack: ExitStack) -> PodNet | None:
    if not is_there(record):
        return None
    try:
        pod = stack.enter_context(enter_pod(record.netns))
    except WireError:  # it went between the two looks
        return None
    if record.netns_cookie and pod.cookie != record.netns_cookie:
        return None
    return pod
