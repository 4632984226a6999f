"""Values about a pod's links."""

from dataclasses import replace

import pytest

from danmpy.kernel.hostlinks import OWN_GROUP
from danmpy.kernel.podlinks import POD_GROUP, PodLinkFacts
from danmpy.kernel.podmessages import DOOMED_GROUP

LINK = PodLinkFacts(name="eth0", index=2, kind="macvlan", alias="", mac="", mtu=1500, up=False)


@pytest.mark.parametrize(
    ("alias", "group", "ours"),
    [
        ("danmpy pod=c1", 0, True),
        ("", POD_GROUP, True),
        ("danmpy pod=c2", POD_GROUP, False),
        ("", 0, False),
        ("", OWN_GROUP, False),
    ],
)
def test_a_link_is_ours_by_its_alias_or_while_it_has_none_by_its_group(
    alias: str, group: int, ours: bool
) -> None:
    assert replace(LINK, alias=alias, group=group).is_ours("danmpy pod=c1") is ours


def test_pod_links_doomed_links_and_host_devices_never_share_a_group() -> None:
    assert len({POD_GROUP, DOOMED_GROUP, OWN_GROUP}) == 3
