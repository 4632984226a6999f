"""Who leads: against a real API server, with a lease of a second so that nobody has to wait."""

from __future__ import annotations

import pytest

from danmpy.kube.client import KubeClient, open_client
from danmpy.kube.leader import Candidacy, LeaderElection, Timing, unique_identity
from support.apiserver import ApiServer
from support.netns import wait_until

pytestmark = pytest.mark.system

FAST = Timing(lease=1, give_up=0.7, tick=0.1)


@pytest.fixture
def client(apiserver: ApiServer) -> KubeClient:
    apiserver.make_namespace("danmpy")
    return open_client(apiserver.kubeconfig())


def candidate(client: KubeClient, name: str, *, clock: object = None) -> LeaderElection:
    options = {"clock": clock} if clock else {}
    names = Candidacy(namespace="danmpy", lease="leader", identity=name)
    return LeaderElection(client, names, timing=FAST, **options)  # type: ignore[arg-type]


def test_one_of_two_leads_and_the_other_follows_when_it_closes(client: KubeClient) -> None:
    first, second = candidate(client, "one"), candidate(client, "two")
    first.start()
    wait_until(first.leading)
    second.start()
    try:
        for _ in range(5):
            second.look()
            assert not second.leading()
        term = first.term
        first.close()
        assert not first.leading()
        wait_until(second.leading, seconds=3)
        assert second.term > term
    finally:
        first.close()
        second.close()


def test_a_leader_that_falls_silent_is_followed_only_after_its_lease(client: KubeClient) -> None:
    first, second = candidate(client, "one"), candidate(client, "two")
    first.look()
    assert first.leading()
    second.look()
    assert not second.leading()
    wait_until(lambda: second.look() or second.leading(), seconds=4)
    assert not first.leading(), "it gave up before anybody could follow"
    assert second.term == first.term + 1
    first.look()
    assert not first.leading()


def test_a_clock_that_jumps_neither_takes_the_lead_nor_gives_it(client: KubeClient) -> None:
    far = 4_000_000_000_000_000
    first, second = candidate(client, "one"), candidate(client, "two", clock=lambda: far)
    first.look()
    for _ in range(3):
        second.look()
        first.look()
    assert first.leading()
    assert not second.leading()


def test_a_leader_without_an_api_server_gives_up_and_leads_again_with_a_new_term(
    client: KubeClient, apiserver: ApiServer
) -> None:
    leader = candidate(client, "one")
    leader.start()
    try:
        wait_until(leader.leading)
        term = leader.term
        apiserver.kill()
        wait_until(lambda: not leader.leading(), seconds=8)
        apiserver.start()
        wait_until(leader.leading, seconds=8)
        assert leader.term > term
    finally:
        leader.close()


def test_a_replica_that_was_restarted_under_its_name_leads_with_a_new_term(
    client: KubeClient,
) -> None:
    before = candidate(client, "one")
    before.look()
    after = candidate(client, "one")
    after.look()
    assert after.leading()
    assert after.term == before.term + 1


def test_a_leader_leads_above_a_term_that_others_remember(client: KubeClient) -> None:
    leader = candidate(client, "one")
    leader.look()
    leader.outgrow(41)
    leader.look()
    assert leader.leading()
    assert leader.term == 42
    leader.look()
    assert leader.term == 42


def test_who_has_lost_the_lease_does_not_get_it_by_outgrowing(client: KubeClient) -> None:
    first, second = candidate(client, "one"), candidate(client, "two")
    first.look()
    wait_until(lambda: second.look() or second.leading(), seconds=4)
    first.outgrow(second.term)
    first.look()
    assert not first.leading()
    assert second.leading()


def test_two_replicas_whose_host_and_process_are_called_alike_have_names_of_their_own(
    client: KubeClient,
) -> None:
    names = {unique_identity("host", 1) for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("host-1-") for name in names)
    assert len(unique_identity("h" * 300, 2**22)) <= 253
    first = candidate(client, unique_identity("host", 1))
    second = candidate(client, unique_identity("host", 1))
    first.look()
    second.look()
    assert first.leading()
    assert not second.leading()
