"""Where the webhook's certificate comes from: a Secret that the replicas share, or a folder."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from danmpy.clock import Clock, wall_clock
from danmpy.controller.certificates import Chain, ServedCertificate, checked, renewed
from danmpy.controller.registration import Registration
from danmpy.errors import IntentError, NotReadyError
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import ClashError, MissingError
from danmpy.kube.resources import SECRETS

_TRIES: Final = 5
_CERTIFICATE, _KEY, _BUNDLE, _AUTHORITY_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key"


class CertificateSource(Protocol):
    """Where `WebhookService` looks, again and again."""

    def read(self) -> ServedCertificate:
        """What is to be served now.

        Raises:
            DanmpyError: it cannot be had now.
        """


class SecretCertificates:
    """Made here, renewed in time, and kept in one Secret for all replicas.

    Whoever is first writes it; the others find it. The API server refuses a second creation and an
    update of an old version, so that two that write at once end with one certificate.
    """

    def __init__(
        self, client: KubeClient, registration: Registration, *, clock: Clock = wall_clock
    ) -> None:
        self._client = client
        self._namespace = registration.namespace
        self._name = secret_name(registration)
        self._hosts = hosts_of(registration)
        self._clock = clock

    def read(self) -> ServedCertificate:
        """The certificate in the Secret, renewed if that is due.

        Raises:
            ClusterError: the API server refuses or does not answer.
            NotReadyError: others write the Secret all the time.
        """
        for _ in range(_TRIES):
            found = self._found()
            chain = _chain_of(found)
            wanted = renewed(chain, self._hosts, self._clock())
            if wanted is chain:
                return wanted.served
            try:
                self._write(found, wanted)
            except (ClashError, MissingError):
                continue  # another replica was first
            return wanted.served
        raise NotReadyError(
            "others keep changing the certificate",
            hint="find out who writes this Secret besides the controller",
            subject=SECRETS.subject(self._namespace, self._name),
        )

    def _found(self) -> dict[str, Any] | None:
        try:
            return self._client.get(SECRETS, self._name, self._namespace)
        except MissingError:
            return None

    def _write(self, found: dict[str, Any] | None, chain: Chain) -> None:
        data = {
            _CERTIFICATE: chain.served.certificate,
            _KEY: chain.served.key,
            _BUNDLE: chain.served.ca_bundle,
            _AUTHORITY_KEY: chain.authority_key,
        }
        body: dict[str, Any] = found or {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._name, "labels": {"app.kubernetes.io/name": "danmpy"}},
            "type": "kubernetes.io/tls",
        }
        body = body | {"data": {key: _text64(value) for key, value in data.items()}}
        if found is None:
            self._client.create(SECRETS, body, self._namespace)
        else:  # with the resourceVersion that was read
            self._client.replace(SECRETS, self._name, body, self._namespace)


class FolderCertificates:
    """Given by somebody else, as cert-manager mounts them: ``tls.crt``, ``tls.key``, ``ca.crt``.

    Without ``ca.crt`` the registration is left alone. Files are read whole at every look, because
    mounted Secrets are replaced by a link that no watch follows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> ServedCertificate:
        """The certificate in the folder.

        Raises:
            IntentError: a file is missing or unreadable, or key and certificate do not fit, as in
                the moment between the writing of the two.
        """
        bundle = self._folder / _BUNDLE
        try:
            served = ServedCertificate(
                certificate=(self._folder / _CERTIFICATE).read_bytes(),
                key=(self._folder / _KEY).read_bytes(),
                ca_bundle=bundle.read_bytes() if bundle.exists() else b"",
            )
        except OSError as error:
            raise IntentError(
                f"the webhook's certificate cannot be read: {error.strerror}",
                hint="mount tls.crt and tls.key there, or leave webhook.cert_dir empty",
                subject=str(error.filename),
            ) from error
        return checked(served)


def secret_name(registration: Registration) -> str:
    """The name of the Secret, in the controller's own namespace."""
    return f"{registration.service}-tls"


def hosts_of(registration: Registration) -> Sequence[str]:
    """The names by which the API server calls; it uses the first one of a Service."""
    service = f"{registration.service}.{registration.namespace}"
    names = [f"{service}.svc", service, f"{service}.svc.cluster.local"]
    host = urlsplit(registration.url).hostname if registration.url else None
    return [host, *names] if host else names


def _chain_of(secret: Mapping[str, Any] | None) -> Chain | None:
    """What is in a Secret; None when it is not what was put there."""
    data = (secret or {}).get("data") or {}
    try:
        parts = [
            base64.b64decode(data[key]) for key in (_CERTIFICATE, _KEY, _BUNDLE, _AUTHORITY_KEY)
        ]
    except (KeyError, ValueError, TypeError):
        return None
    return Chain(
        served=ServedCertificate(certificate=parts[0], key=parts[1], ca_bundle=parts[2]),
        authority_key=parts[3],
    )


def _text64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
