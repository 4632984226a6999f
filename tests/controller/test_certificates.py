from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from danmpy.clock import MICROSECONDS
from danmpy.controller.certificates import (
    AUTHORITY_LIFE,
    SERVED_LIFE,
    Chain,
    ServedCertificate,
    checked,
    renewed,
)
from danmpy.errors import IntentError

HOSTS = ("danmpy-webhook.danmpy.svc", "127.0.0.1", "2001:db8::1")
NOW = 1_777_000_000 * MICROSECONDS
DAY = 86_400 * MICROSECONDS


def at(now: int) -> datetime:
    return datetime.fromtimestamp(now / MICROSECONDS, UTC)


def leaf(chain: Chain) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain.served.certificate)


def authorities(chain: Chain) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(chain.served.ca_bundle)


def is_trusted(chain: Chain, bundle: bytes, now: int, host: str = HOSTS[0]) -> bool:
    """By the rules that public clients follow."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(at(now)).build_server_verifier(x509.DNSName(host))
    try:
        verifier.verify(leaf(chain), [])
    except VerificationError:
        return False
    return True


def test_what_is_made_is_trusted_by_whoever_trusts_the_authority() -> None:
    chain = renewed(None, HOSTS, NOW)
    assert is_trusted(chain, chain.served.ca_bundle, NOW)
    assert not is_trusted(chain, chain.served.ca_bundle, NOW, "other.svc")
    assert not is_trusted(chain, renewed(None, HOSTS, NOW).served.ca_bundle, NOW)
    assert checked(chain.served) is chain.served


def test_the_certificate_names_every_host_and_can_only_serve() -> None:
    chain = renewed(None, HOSTS, NOW)
    names = leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOSTS[0]]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == list(HOSTS[1:])
    usage = leaf(chain).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    basic = leaf(chain).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.ca is False


def test_a_clock_that_is_late_by_minutes_trusts_it_too() -> None:
    chain = renewed(None, HOSTS, NOW)
    assert is_trusted(chain, chain.served.ca_bundle, NOW - 30 * 60 * MICROSECONDS)


def test_nothing_changes_before_two_thirds_of_its_life() -> None:
    chain = renewed(None, HOSTS, NOW)
    assert renewed(chain, HOSTS, NOW) is chain
    assert renewed(chain, HOSTS, NOW + 59 * DAY) is chain
    assert renewed(chain, HOSTS[:1] + HOSTS[:0:-1], NOW) is chain, "the order means nothing"


def test_after_two_thirds_another_certificate_of_the_same_authority_is_made() -> None:
    chain = renewed(None, HOSTS, NOW)
    later = NOW + 61 * DAY
    assert timedelta(days=90) == SERVED_LIFE
    following = renewed(chain, HOSTS, later)
    assert leaf(following) != leaf(chain)
    assert following.served.ca_bundle == chain.served.ca_bundle
    assert following.authority_key == chain.authority_key
    assert leaf(following).public_key() != leaf(chain).public_key()
    assert is_trusted(following, chain.served.ca_bundle, later)


def test_another_host_makes_another_certificate_at_once() -> None:
    chain = renewed(None, HOSTS[:1], NOW)
    following = renewed(chain, HOSTS, NOW)
    assert following.served.certificate != chain.served.certificate
    assert following.served.ca_bundle == chain.served.ca_bundle


def test_replicas_that_are_called_by_different_names_end_with_one_certificate() -> None:
    one, other = ("a.example.com", "a.svc"), ("b.example.com", "a.svc")
    both = renewed(renewed(None, one, NOW), other, NOW)
    assert renewed(both, one, NOW) is both
    assert renewed(both, other, NOW) is both
    for host in (*one, *other):
        assert is_trusted(both, both.served.ca_bundle, NOW, host)


def test_names_that_nobody_uses_any_more_are_gone_with_the_next_certificate() -> None:
    chain = renewed(renewed(None, ("old.svc",), NOW), HOSTS, NOW)
    later = NOW + 61 * DAY
    assert is_trusted(chain, chain.served.ca_bundle, NOW, "old.svc")
    following = renewed(chain, HOSTS, later)
    assert not is_trusted(following, following.served.ca_bundle, later, "old.svc")


def test_a_new_authority_is_trusted_before_it_signs() -> None:
    """At every step what is served is trusted by who knows the bundle of the step before."""
    chain = renewed(None, HOSTS, NOW)
    end = NOW + 3 * AUTHORITY_LIFE // timedelta(microseconds=1)
    now, generations = NOW, {chain.authority_key}
    while now < end:
        bundle = chain.served.ca_bundle
        now += 30 * DAY
        while (following := renewed(chain, HOSTS, now)) is not chain:
            assert is_trusted(following, bundle, now) or not is_trusted(chain, bundle, now)
            chain, bundle = following, following.served.ca_bundle
            assert is_trusted(chain, bundle, now)
            generations.add(chain.authority_key)
        assert len(authorities(chain)) <= 2
        assert all(each.not_valid_after_utc > at(now) for each in authorities(chain)[:1])
    assert len(generations) >= 4


def test_when_both_are_due_the_authority_comes_first() -> None:
    chain = renewed(None, HOSTS, NOW)
    late = NOW + 3000 * DAY
    first = renewed(chain, HOSTS, late)
    assert len(authorities(first)) == 2
    assert first.served.certificate == chain.served.certificate
    second = renewed(first, HOSTS, late)
    assert second.served.ca_bundle == first.served.ca_bundle
    assert is_trusted(second, first.served.ca_bundle, late)
    assert renewed(second, HOSTS, late) is second


def test_an_authority_that_has_run_out_is_replaced_with_all_that_it_signed() -> None:
    chain = renewed(None, HOSTS, NOW)
    late = NOW + 4000 * DAY
    following = renewed(chain, HOSTS, late)
    assert len(authorities(following)) == 1
    assert is_trusted(following, following.served.ca_bundle, late)


def test_a_clock_that_was_set_back_for_days_gets_something_that_is_valid() -> None:
    chain = renewed(None, HOSTS, NOW)
    before = NOW - 30 * DAY
    while (following := renewed(chain, HOSTS, before)) is not chain:
        chain = following
    assert is_trusted(chain, chain.served.ca_bundle, before)


@pytest.mark.parametrize("field", ["certificate", "key", "ca_bundle", "authority_key"])
@pytest.mark.parametrize("value", ["", "nonsense", "other"])
def test_a_chain_that_is_damaged_is_replaced_whole(field: str, value: str) -> None:
    chain, other = renewed(None, HOSTS, NOW), renewed(None, HOSTS, NOW)

    def part_of(whole: Chain) -> bytes:
        return bytes(getattr(whole if field == "authority_key" else whole.served, field))

    damage: Any = {field: part_of(other) if value == "other" else value.encode()}
    if field == "authority_key":
        damaged = replace(chain, **damage)
    else:
        damaged = replace(chain, served=replace(chain.served, **damage))
    following = renewed(damaged, HOSTS, NOW)
    assert following is not damaged
    assert following.authority_key not in {chain.authority_key, other.authority_key}
    assert is_trusted(following, following.served.ca_bundle, NOW)
    assert renewed(following, HOSTS, NOW) is following


def test_key_and_certificate_of_others_are_checked() -> None:
    one, other = renewed(None, HOSTS, NOW).served, renewed(None, HOSTS, NOW).served
    mixed = ServedCertificate(certificate=one.certificate, key=other.key)
    with pytest.raises(IntentError, match="does not belong"):
        checked(mixed)
    for broken in (replace(one, key=b"x"), replace(one, certificate=b"")):
        with pytest.raises(IntentError, match="cannot be read"):
            checked(broken)
