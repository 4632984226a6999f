"""A sandbox is entered only while its namespace is the one that it was made in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danmpy.api.cni import Verb
from danmpy.attach.journal import AttachmentRecord
from danmpy.attach.sandboxes import enter_sandbox, is_there
from danmpy.errors import HostError
from support.attaching import AttachNode, request
from support.netns import Namespace, Namespaces
from support.processes import without_file_descriptors


@pytest.fixture
def record(three: AttachNode, pod: Namespace) -> AttachmentRecord:
    """The record of a pod that is attached in `pod`."""
    three.attacher.add(request(Verb.ADD, "web", pod))
    (made,) = three.journal.read_all()
    return made


def entered(record: AttachmentRecord) -> bool:
    with enter_sandbox(record) as pod:
        return pod is not None and "eth0" in pod.read_links()


def test_a_namespace_that_still_is_the_one_is_entered(record: AttachmentRecord) -> None:
    assert is_there(record)
    assert entered(record)


def test_a_namespace_that_is_gone_is_not_entered(
    record: AttachmentRecord, pod: Namespace, namespaces: Namespaces
) -> None:
    namespaces.delete(pod)
    for gone in (record, replace(record, netns="")):
        assert not is_there(gone)
        assert not entered(gone)


def test_a_later_namespace_at_the_path_is_not_entered(
    record: AttachmentRecord, namespaces: Namespaces
) -> None:
    other = replace(record, netns=str(namespaces.make("other").path))
    assert not is_there(other)
    assert not entered(other)


def test_a_later_namespace_with_the_same_inode_is_told_by_its_cookie(
    record: AttachmentRecord,
) -> None:
    if not record.netns_cookie:
        pytest.skip("this kernel has no namespace cookies (before Linux 5.14)")
    later = replace(record, netns_cookie=record.netns_cookie + 1)
    assert is_there(later)
    assert not entered(later)


def test_a_namespace_that_cannot_be_looked_into_is_not_taken_for_gone(
    record: AttachmentRecord,
) -> None:
    with without_file_descriptors(), pytest.raises(HostError, match="Too many open files"):
        entered(record)
