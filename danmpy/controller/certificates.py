"""The webhook's certificates: an authority of our own, and what it signs.

The authority lives ten years and is what the registration trusts (``caBundle``); the certificate
that is served lives 90 days. Each is replaced after two thirds of its life. A new authority is
trusted beside the old one until that has run out, and signs only what is made after it: renewing
never means to serve what the registration does not trust yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from danmpy.clock import MICROSECONDS
from danmpy.errors import IntentError

AUTHORITY_LIFE: Final = timedelta(days=3650)
SERVED_LIFE: Final = timedelta(days=90)

_BACKDATED: Final = timedelta(hours=1)
"""Clocks of API server and controller differ."""

_NAME_MAX: Final = 64
"""RFC 5280, appendix A.1: ub-common-name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCertificate:
    """What TLS needs, as PEM: the certificate with its chain, and its key. `ca_bundle` is what
    clients have to trust; empty: somebody else tells them."""

    certificate: bytes
    key: bytes
    ca_bundle: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A served certificate with the authority that will sign the next one.

    The first certificate in `served.ca_bundle` is the one that `authority_key` belongs to.
    """

    served: ServedCertificate
    authority_key: bytes


def renewed(chain: Chain | None, hosts: Sequence[str], now: int) -> Chain:
    """`chain`, or what has to take its place at `now` (microseconds); the same object if nothing.

    `hosts` are the names and addresses by which the API server calls. A chain that cannot be read
    is replaced whole.
    """
    moment = datetime.fromtimestamp(now / MICROSECONDS, UTC)
    try:
        known = _Known.parse(chain) if chain is not None else None
    except (ValueError, TypeError, InvalidSignature):
        known = None
    if known is None or chain is None or known.authorities[0].not_valid_after_utc <= moment:
        return _new_chain(hosts, moment)
    if _is_due(known.authorities[0], moment):
        return _with_new_authority(chain, known, moment)
    names, wanted = _hosts_of(known.served), _names(hosts)
    if _is_due(known.served, moment):
        return _with_new_certificate(chain, known, wanted, moment)
    if not wanted <= names:
        # Beside those of other replicas, which may be called by other names.
        return _with_new_certificate(chain, known, names | wanted, moment)
    return chain


def checked(served: ServedCertificate) -> ServedCertificate:
    """`served`, whose certificate and key belong together.

    Raises:
        IntentError: they do not, or one of them cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificates(served.certificate)[0]
        key = load_pem_private_key(served.key, None)
        fits = certificate.public_key() == key.public_key()
    except (ValueError, TypeError) as error:
        raise IntentError(
            f"the webhook's certificate or key cannot be read: {error}",
            hint="put a PEM certificate in tls.crt and its key, without password, in tls.key",
            subject="webhook.cert_dir",
        ) from error
    if not fits:
        raise IntentError(
            "the webhook's key does not belong to its certificate",
            hint="write tls.crt and tls.key together",
            subject="webhook.cert_dir",
        )
    return served


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A chain, read: every authority that is trusted, the newest first."""

    authorities: tuple[x509.Certificate, ...]
    authority_key: ec.EllipticCurvePrivateKey
    served: x509.Certificate

    @staticmethod
    def parse(chain: Chain) -> _Known:
        """Raises ValueError, TypeError or InvalidSignature for a chain that is of no use."""
        checked_pair = x509.load_pem_x509_certificates(chain.served.certificate)[0]
        authorities = tuple(x509.load_pem_x509_certificates(chain.served.ca_bundle))
        key = load_pem_private_key(chain.authority_key, None)
        own = load_pem_private_key(chain.served.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not a key of ours")
        if (
            key.public_key() != authorities[0].public_key()
            or own.public_key() != checked_pair.public_key()
        ):
            raise ValueError("a key does not belong to its certificate")
        issuers = [a for a in authorities if a.subject == checked_pair.issuer]
        if not issuers:
            raise ValueError("the authority of the certificate is not trusted")
        checked_pair.verify_directly_issued_by(issuers[0])
        return _Known(authorities=authorities, authority_key=key, served=checked_pair)


def _is_due(certificate: x509.Certificate, moment: datetime) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # A clock that was set back: what is not valid yet is of no use either.
    return moment >= begin + (end - begin) * 2 / 3 or moment < begin


def _new_chain(hosts: Sequence[str], moment: datetime) -> Chain:
    authority, key = _authority(moment)
    certificate, own_key = _sign(authority, key, _names(hosts), moment)
    return Chain(
        served=ServedCertificate(
            certificate=certificate, key=own_key, ca_bundle=authority.public_bytes(Encoding.PEM)
        ),
        authority_key=_pem(key),
    )


def _with_new_certificate(
    chain: Chain, known: _Known, names: frozenset[x509.GeneralName], moment: datetime
) -> Chain:
    certificate, key = _sign(known.authorities[0], known.authority_key, names, moment)
    return Chain(
        served=ServedCertificate(
            certificate=certificate, key=key, ca_bundle=chain.served.ca_bundle
        ),
        authority_key=chain.authority_key,
    )


def _with_new_authority(chain: Chain, known: _Known, moment: datetime) -> Chain:
    """The same certificate is served on, signed by the old authority, which stays trusted."""
    authority, key = _authority(moment)
    still = [old for old in known.authorities if old.not_valid_after_utc > moment]
    bundle = b"".join(each.public_bytes(Encoding.PEM) for each in (authority, *still))
    served = ServedCertificate(
        certificate=chain.served.certificate, key=chain.served.key, ca_bundle=bundle
    )
    return Chain(served=served, authority_key=_pem(key))


def _authority(moment: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Its birthday is in the name: two authorities of one name cannot be told apart by issuer.
    serial = x509.random_serial_number()
    name = _name(f"danmpy webhook authority {serial:x}"[:_NAME_MAX])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, moment, AUTHORITY_LIFE)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _sign(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: frozenset[x509.GeneralName],
    moment: datetime,
) -> tuple[bytes, bytes]:
    """A certificate for `names` and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name("danmpy webhook"), authority.subject, key, moment, SERVED_LIFE)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(sorted(names, key=repr)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), _pem(key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    moment: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names(hosts: Sequence[str]) -> frozenset[x509.GeneralName]:
    return frozenset(_general_name(host) for host in hosts)


def _hosts_of(certificate: x509.Certificate) -> frozenset[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(found.value)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
