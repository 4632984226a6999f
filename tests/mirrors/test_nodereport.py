from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from danmpy.attach.journal import Phase
from danmpy.intent.values import Intent, Problem
from danmpy.ipam.nodereports import NodeNetwork
from danmpy.kernel.hostlinks import RemoveLink
from danmpy.mirrors.nodereport import UNWANTED, attached_on, rows_of
from danmpy.netwatcher.conditions import not_ready
from danmpy.netwatcher.values import Reason, Step, StepFailure
from support.mirroring import EXT, INTERNAL, look, record, vxlan_network
from support.nads import nad_key
from support.specs import network

ONE, TWO = vxlan_network(INTERNAL, 700), vxlan_network(EXT, 701)
PROBLEM = Problem(where="x", subject=str(INTERNAL), code="X", message="wrong", hint="correct it")


def test_a_row_says_device_and_segment_or_what_is_wrong() -> None:
    rows = rows_of(look(ONE, TWO, failed={EXT: "ens4 is down"}), {str(EXT): 2}, {})
    assert rows[str(INTERNAL)] == NodeNetwork(
        network=str(INTERNAL),
        segment="vxlan:ens4:700",
        device="vx700",
        ready=True,
        reason="",
        message="",
        attached=0,
    )
    assert rows[str(EXT)] == NodeNetwork(
        network=str(EXT),
        segment="vxlan:ens4:701",
        device="",
        ready=False,
        reason="KernelRefused",
        message="ens4 is down",
        attached=2,
    )


def test_a_network_without_a_segment_has_none_in_its_row() -> None:
    rows = rows_of(look(network(EXT)), {}, {})
    assert (rows[str(EXT)].segment, rows[str(EXT)].device) == ("", "ens4")


def test_a_network_that_waits_for_its_first_segment_has_no_row() -> None:
    waiting = {INTERNAL: (not_ready(Reason.STORE_UNAVAILABLE, "it waits"),)}
    assert rows_of(look(conditions=waiting), {}, {}) == {}


def test_interfaces_count_until_their_links_are_gone() -> None:
    records = [record(number, phase=phase) for number, phase in enumerate(Phase)]
    assert attached_on(records)[str(INTERNAL)] == 3
    assert attached_on([]) == {}


def test_a_network_that_is_gone_keeps_its_row_while_pods_are_on_it() -> None:
    before = rows_of(look(ONE, TWO), {}, {})
    rows = rows_of(look(), {str(INTERNAL): 1}, before)
    assert list(rows) == [str(INTERNAL)]
    row = rows[str(INTERNAL)]
    assert (row.segment, row.device, row.ready, row.reason) == (
        "vxlan:ens4:700", "vx700", False, UNWANTED,
    )  # fmt: skip
    assert row.attached == 1
    assert rows_of(look(), {str(INTERNAL): 1}, {})[str(INTERNAL)].attached == 1


def test_a_network_that_is_gone_keeps_its_row_while_its_device_is_there() -> None:
    before = rows_of(look(ONE, TWO), {}, {})
    step = Step(device="vx701", reason="", change=RemoveLink(name="vx701", index=9))
    busy = StepFailure(step=step, reason=Reason.KERNEL_REFUSED, message="busy")
    kept = rows_of(look(kept_orphans=("vx700",), failures=(busy,)), {}, before)
    assert {name: row.segment for name, row in kept.items()} == {
        str(INTERNAL): "vxlan:ens4:700",
        str(EXT): "vxlan:ens4:701",
    }
    assert rows_of(look(), {}, kept) == {}


def test_a_network_that_is_refused_now_keeps_its_row() -> None:
    before = rows_of(look(ONE), {}, {})
    refused = look(intent=Intent(rejected={INTERNAL: (PROBLEM,)}))
    assert rows_of(refused, {}, before)[str(INTERNAL)].device == "vx700"
    waiting = look(conditions={INTERNAL: (not_ready(Reason.STORE_UNAVAILABLE, "it waits"),)})
    assert rows_of(waiting, {}, before)[str(INTERNAL)].segment == "vxlan:ens4:700"


def test_a_device_that_fails_is_named_as_long_as_the_segment_is_the_same() -> None:
    before = rows_of(look(ONE), {}, {})
    failed = rows_of(look(ONE, failed={INTERNAL: "down"}), {}, before)
    assert (failed[str(INTERNAL)].device, failed[str(INTERNAL)].ready) == ("vx700", False)
    moved = vxlan_network(INTERNAL, 702)
    assert rows_of(look(moved, failed={INTERNAL: "x"}), {}, before)[str(INTERNAL)].device == ""


KEYS = st.frozensets(st.sampled_from([ONE, TWO, network(replace(EXT, name="flat"))]))


@given(
    looks=st.lists(st.tuples(KEYS, st.dictionaries(st.sampled_from([str(INTERNAL), "x"]),
                                                   st.integers(1, 3))), min_size=1, max_size=5)
)  # fmt: skip
def test_rows_settle_and_name_every_network_that_is_wanted_or_in_use(looks) -> None:  # type: ignore[no-untyped-def]
    rows = {}
    for networks, attached in looks:
        report = look(*networks)
        rows = rows_of(report, attached, rows)
        assert rows_of(report, attached, rows) == rows
        assert rows.keys() == {str(each.key) for each in networks} | attached.keys()
        assert all(row.network == name for name, row in rows.items())
        assert all(rows[name].attached == count for name, count in attached.items())


def test_a_device_that_stands_keeps_its_segment_although_its_network_has_moved() -> None:
    before = rows_of(look(ONE), {}, {})
    moved = replace(look(vxlan_network(INTERNAL, 709)), kept_in_use=("vx700",))
    rows = rows_of(moved, {}, before)
    assert {row.segment for row in rows.values()} == {"vxlan:ens4:700", "vxlan:ens4:709"}
    assert rows_of(moved, {}, rows) == rows
    assert {row.segment for row in rows_of(replace(moved, kept_in_use=()), {}, rows).values()} == {
        "vxlan:ens4:709"
    }


def test_a_nad_has_a_row_only_where_it_has_a_wire() -> None:
    bare = network(nad_key("bare"), segment=None, host_device="")
    wired = vxlan_network(nad_key("wired"), 702)
    rows = rows_of(look(ONE, bare, wired), {str(bare.key): 2, str(wired.key): 1}, {})
    assert set(rows) == {str(INTERNAL), str(wired.key)}
    assert (rows[str(wired.key)].segment, rows[str(wired.key)].attached) == ("vxlan:ens4:702", 1)
    assert set(rows_of(look(), {"NetworkAttachmentDefinition/flannel": 1}, rows)) == set()


def test_a_nad_that_is_gone_keeps_its_row_while_pods_are_on_its_wire() -> None:
    wired = vxlan_network(nad_key("wired"), 702)
    before = rows_of(look(wired), {}, {})
    rows = rows_of(look(), {str(wired.key): 1}, before)
    assert rows[str(wired.key)].segment == "vxlan:ens4:702"
