"""What people type: times, addresses, pods and names of networks."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.cli.args import (
    choose_network,
    nearest_pod,
    parse_address,
    parse_at,
    parse_mac,
    parse_pod,
    parse_pod_filter,
    parse_time,
    parse_window,
)
from danmpy.clock import to_rfc3339, wall_clock
from danmpy.errors import IntentError

NOON = 1_777_896_000_000_000  # 2026-05-04T12:00:00Z

KNOWN = (
    "TenantNetwork/blue/internal",
    "TenantNetwork/red/internal",
    "TenantNetwork/blue/frontend",
    "ClusterNetwork/shared",
)


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T12:00:00Z",
        "2026-05-04t12:00:00z",
        "2026-05-04T12:00:00",
        "2026-05-04 12:00",
        "2026-05-04T14:00:00.000000+02:00",
        "2026-05-04T06:30:00-05:30",
    ],
)
def test_a_time_has_an_offset_or_is_utc(text: str) -> None:
    assert parse_time(text, "--at") == NOON


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_a_time_that_was_printed_is_read_back_to_the_microsecond(micros: int) -> None:
    assert parse_time(to_rfc3339(micros), "--at") == micros


def test_now_is_now_and_nothing_stays_nothing() -> None:
    before = wall_clock()
    now = parse_time("now", "--at")
    assert now is not None
    assert before <= now <= wall_clock()
    assert parse_time(None, "--at") is None


def test_at_now_leaves_the_time_to_the_database() -> None:
    assert (parse_at(None), parse_at("now"), parse_at("NOW")) == (None, None, None)
    assert parse_at("2026-05-04T12:00:00Z") == NOON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "12:00",
        "04.05.2026",
        "2026-13-01T00:00:00Z",
        "1777888800",
        "2026-W19",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(IntentError) as caught:
        parse_time(text, "--at")
    assert caught.value.subject == "--at"
    assert "2026-05-04T10:15:00Z" in caught.value.hint


@pytest.mark.parametrize("text", ["10.20.3.7", "10.20.3.7/24", "2001:db8::7", "2001:DB8:0::7"])
def test_an_address_may_carry_its_prefix_length(text: str) -> None:
    assert parse_address(text, "ADDRESS") == ip_address(text.partition("/")[0])


@pytest.mark.parametrize("text", ["", "10.20.3", "10.20.3.256", "web-0", "fe80::1%eth0", "/24"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(IntentError, match="is not an address"):
        parse_address(text, "ADDRESS")


def test_a_pod_is_namespace_and_name() -> None:
    assert parse_pod("blue/web-0") == ("blue", "web-0")
    assert parse_pod("Pod/blue/web-0") == ("blue", "web-0")


@pytest.mark.parametrize("text", ["web-0", "/web-0", "blue/", "a/b/c", ""])
def test_a_pod_without_namespace_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(IntentError, match="write namespace/name"):
        parse_pod(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("TenantNetwork/blue/internal", "TenantNetwork/blue/internal"),
        ("tenantnetwork/blue/internal", "TenantNetwork/blue/internal"),
        ("blue/internal", "TenantNetwork/blue/internal"),
        ("frontend", "TenantNetwork/blue/frontend"),
        ("shared", "ClusterNetwork/shared"),
        ("SHARED", "ClusterNetwork/shared"),
    ],
)
def test_a_network_may_be_named_as_short_as_it_is_clear(text: str, meant: str) -> None:
    assert choose_network(text, KNOWN) == meant


def test_a_name_that_two_networks_have_is_refused_and_both_are_named() -> None:
    with pytest.raises(IntentError) as caught:
        choose_network("internal", KNOWN)
    assert "TenantNetwork/blue/internal, TenantNetwork/red/internal" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("fronted", "did you mean TenantNetwork/blue/frontend?"),
        ("TenantNetwork/blue/fronted", "did you mean TenantNetwork/blue/frontend?"),
        ("ClusterNetwork/sharde", "did you mean ClusterNetwork/shared?"),
        ("blue/internl", "did you mean TenantNetwork/blue/internal?"),
        ("red/internl", "did you mean TenantNetwork/red/internal?"),
        ("zzz", "danmpy networks lists them"),
    ],
)
def test_an_unknown_network_names_the_nearest_known(text: str, hint: str) -> None:
    with pytest.raises(IntentError) as caught:
        choose_network(text, KNOWN)
    assert caught.value.hint == hint


def test_with_no_network_known_at_all_the_places_to_look_are_named() -> None:
    with pytest.raises(IntentError, match=r"check intent\.path and database_url"):
        choose_network("a", ())


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("blue/wbe-0", "did you mean blue/web-0?"),
        ("green/web-0", "did you mean blue/web-0?"),
        ("green/other", "check the name, and intent.path"),
    ],
)
def test_an_unknown_pod_names_the_nearest_or_its_namesake(text: str, hint: str) -> None:
    assert nearest_pod(text, [("blue", "web-0"), ("red", "db")]) == hint


def test_without_any_pod_the_intent_is_named() -> None:
    assert nearest_pod("blue/web", ()) == "the intent names no pod at all"


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(IntentError, match="before it begins"):
        parse_window("2030-01-01T00:00:00Z", "2029-01-01T00:00:00Z")
    assert parse_window(None, "1970-01-01T00:00:01Z") == {"since": None, "until": 1_000_000}


@pytest.mark.parametrize(
    "text", ["02-42-AC-11-00-02", "0242.ac11.0002", "0242ac110002", "02:42:ac:11:00:02"]
)
def test_a_mac_is_understood_in_the_usual_spellings(text: str) -> None:
    assert parse_mac(text) == "02:42:ac:11:00:02"


def test_nonsense_for_a_mac_or_a_pod_is_refused_and_never_an_empty_answer() -> None:
    with pytest.raises(IntentError, match="no MAC") as caught:
        parse_mac("zz")
    assert caught.value.subject == "--mac"
    with pytest.raises(IntentError, match="ff:ff:ff:ff:ff:ff is a group"):
        parse_mac("ffff.ffff.ffff")
    with pytest.raises(IntentError, match="not a pod"):
        parse_pod_filter("a/b/c")
    assert parse_pod_filter("web-0") == "web-0"
    assert parse_pod_filter("blue/web-0") == "blue/web-0"
