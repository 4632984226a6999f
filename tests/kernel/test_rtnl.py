"""Routing netlink in batches, on the real kernel."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from danmpy.kernel import podmessages
from danmpy.kernel.netns import inside, open_netns
from danmpy.kernel.podlinks import PodRule
from danmpy.kernel.podmessages import RTM_GETRULE
from danmpy.kernel.rtnl import RtnlSocket
from support.netns import Namespace, Namespaces


@pytest.fixture
def pod(namespaces: Namespaces) -> Namespace:
    return namespaces.make("pod")


def socket_in(namespace: Namespace) -> RtnlSocket:
    fd = open_netns(str(namespace.path))
    try:
        with inside(fd):
            return RtnlSocket()
    finally:
        os.close(fd)


def test_replies_come_in_the_order_of_the_requests_and_a_refusal_stops_none(
    pod: Namespace,
) -> None:
    rtnl = socket_in(pod)
    replies = rtnl.ask(
        [
            podmessages.add_address(1, "10.0.0.1/32"),
            podmessages.add_address(77, "10.0.0.2/32"),
            podmessages.read_link("lo"),
            podmessages.read_link("nothere"),
            podmessages.add_address(1, "10.0.0.3/32"),
        ]
    )
    rtnl.close()
    assert [reply.error for reply in replies] == [0, errno.ENODEV, 0, errno.ENODEV, 0]
    assert podmessages.link_facts(replies[2].message).name == "lo"
    assert {"10.0.0.1/32", "10.0.0.3/32"} <= set(pod.addresses("lo"))


def test_a_refusal_carries_the_kernel_s_own_words(pod: Namespace) -> None:
    rtnl = socket_in(pod)
    (reply,) = rtnl.ask([podmessages.add_address(1, "10.0.0.1/99")])
    rtnl.close()
    assert reply.error == errno.EINVAL
    assert reply.refusal.startswith("Invalid argument: ")
    assert len(reply.words) > 5


def test_more_requests_than_one_datagram_s_answers_are_all_answered(pod: Namespace) -> None:
    rtnl = socket_in(pod)
    rules = [PodRule(source=f"10.1.{n // 250}.{n % 250 + 1}", table=77) for n in range(600)]
    replies = rtnl.ask([podmessages.add_rule(rule) for rule in rules])
    assert {reply.error for reply in replies} == {0}
    found = rtnl.dump_bytes(podmessages.read_all(RTM_GETRULE, socket.AF_INET))
    rtnl.close()
    assert set(rules) == {podmessages.rule_facts(each) for each in found} - {None}


def test_nothing_asked_is_nothing_answered(pod: Namespace) -> None:
    rtnl = socket_in(pod)
    assert rtnl.ask([]) == ()
    rtnl.close()


def test_a_dump_that_the_kernel_refuses_is_an_oserror_with_its_words(pod: Namespace) -> None:
    rtnl = socket_in(pod)
    with pytest.raises(OSError, match="not supported"):
        rtnl.dump_bytes(podmessages.read_all(9999))
    rtnl.close()


def test_the_cookie_is_the_namespace_s_and_no_other_one_s(namespaces: Namespaces) -> None:
    one, other = namespaces.make("pod"), namespaces.make("pod")
    sockets = [socket_in(namespace) for namespace in (one, one, other)]
    cookies = [each.cookie for each in sockets]
    for each in sockets:
        each.close()
    assert cookies[0] == cookies[1] != cookies[2]
