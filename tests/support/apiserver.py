"""A real kube-apiserver on a real etcd: the only stand-in for a cluster that the tests accept.

No controller manager, scheduler or kubelet runs beside it: nobody deletes the objects of a deleted
namespace or of a deleted owner, binds pods, or makes service accounts, and a namespace that is
deleted ends only when `ApiServer.restore` takes it away.

Servers live in a folder and on a port of their own. The port stays the same over restarts and is
none that the kernel gives to outgoing connections: those would take it while the server is down.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.apiclient import ADMIN, STRANGER, ApiClient, RefusedError
from support.httpjson import Endpoint
from support.netns import Namespace, run, wait_until
from support.processes import REPOSITORY, Daemon
from support.requirements import need

USERS: Mapping[str, tuple[str, ...]] = {ADMIN: ("system:masters",), STRANGER: ()}

_PORTS = range(15_000, 30_000)
"""Below 32768, where Linux starts to give ports to outgoing connections (ip(7))."""

_KEPT_BY_THE_SERVER = (
    "apiregistration.k8s.io/",
    "configmaps/kube-system/",
    "flowschemas/",
    "leases/kube-system/apiserver-",
    "masterleases/",
    "prioritylevelconfigurations/",
    "ranges/",
    "servicecidrs/",
)
"""What the server itself adds at any time."""


def kube_apiserver() -> Path | None:
    """The binary, where ``.ci/kube-apiserver`` finds one; it builds none here."""
    done = run(str(REPOSITORY / ".ci" / "kube-apiserver"), "--no-build", check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def etcd() -> Path | None:
    """The etcd that belongs to the kube-apiserver, else Debian's."""
    beside = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nowhere") / "etcd"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("etcd")
    return Path(found) if found else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has and that the kernel gives to nobody by itself."""
    while True:
        port = secrets.choice(_PORTS)  # not random: pytest seeds that one for every test
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ApiServer(ApiClient):
    """One etcd with one kube-apiserver; RBAC decides, and admission webhooks are called."""

    def __init__(
        self,
        folder: Path,
        *,
        bind_address: str = "127.0.0.1",
        addresses: Sequence[str] = (),
        netns: Namespace | None = None,
        users: Mapping[str, Sequence[str]] = USERS,
    ) -> None:
        """`addresses`: those that clients use, if not `bind_address`; the certificate names them.

        `netns`: where both processes run; requests of this object go there too. `users`: name to
        groups, fixed, because the server reads them once.
        """
        need("apiserver")
        self.folder = folder
        self.port = free_port()
        self.netns = netns
        wildcard = bind_address in {"0.0.0.0", "::"}
        self.addresses = tuple(addresses) or (("127.0.0.1",) if wildcard else (bind_address,))
        self.ca_file = folder / "tls.crt"
        endpoint = Endpoint(self.addresses[0], self.port, ca_file=self.ca_file, netns=netns)
        super().__init__(endpoint, {name: secrets.token_hex(16) for name in users})
        folder.mkdir(parents=True, exist_ok=True)
        self._write_keys(users)
        store_port = next(port for port in iter(free_port, None) if port != self.port)
        self._store = Endpoint("127.0.0.1", store_port, netns=netns)
        self._etcd = Daemon(self._etcd_argv(store_port), log=folder / "etcd.log", namespace=netns)
        self._server = Daemon(
            self._server_argv(bind_address, store_port), log=self.log, namespace=netns
        )
        self._numbers = itertools.count(1)

    # The processes

    @property
    def log(self) -> Path:
        """What kube-apiserver writes, over all starts."""
        return self.folder / "kube-apiserver.log"

    @property
    def running(self) -> bool:
        """Is kube-apiserver up (etcd outlives it)?"""
        return self._server.running

    @property
    def pid(self) -> int:
        """The kube-apiserver process."""
        return self._server.process.pid

    def start(self) -> ApiServer:
        """Start what does not run, and wait until it serves; 2 to 4 s on a quiet machine."""
        if not self._etcd.running:
            self._etcd.start()
            self._wait(self._etcd, self._store_answers, "etcd")
        if not self._server.running:
            self._server.start()
            self._wait(self._server, self._serves_all, "kube-apiserver")
        return self

    def kill(self) -> None:
        """SIGKILL to kube-apiserver; etcd lives, so `start` continues where it was."""
        self._server.kill()

    def restart(self) -> None:
        """End kube-apiserver in good order and start it again; every connection breaks."""
        _end(self._server)
        self.start()

    def stop(self) -> None:
        """End both. The data stay, and `start` goes on with them; `close` takes the folder."""
        _end(self._server)
        _end(self._etcd)

    def close(self) -> None:
        """Kill both and remove the folder: nobody reads the data again."""
        self._server.kill()
        self._etcd.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self, daemon: Daemon, condition: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            if not daemon.running or time.monotonic() > deadline:
                tail = "\n".join(daemon.output.splitlines()[-30:])
                fate = "does not get ready" if daemon.running else "ended"
                self._server.kill()
                self._etcd.kill()
                pytest.fail(f"{name} {fate}; the end of its log:\n{tail}")
            time.sleep(0.05)

    def _store_answers(self) -> bool:
        return self._store.try_request("GET", "/health").status == 200

    def _serves_all(self) -> bool:
        # Namespaces come last: a background loop of the server makes them after /readyz.
        names = ("default", "kube-system", "kube-public", "kube-node-lease")
        return all(
            self._endpoint.try_request("GET", path, token=self.tokens[ADMIN]).status == 200
            for path in ("/readyz", *(f"/api/v1/namespaces/{name}" for name in names))
        )

    def _write_keys(self, users: Mapping[str, Sequence[str]]) -> None:
        names = ["DNS:localhost", "IP:127.0.0.1", *(f"IP:{each}" for each in self.addresses)]
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "30", "-subj", "/CN=kube-apiserver"),
            *("-addext", f"subjectAltName={','.join(dict.fromkeys(names))}"),
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-keyout", str(self.folder / "tls.key"), "-out", str(self.ca_file)),
        )
        signing = self.folder / "accounts.key"
        curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        run("openssl", "genpkey", *curve, "-out", str(signing))
        run(*("openssl", "pkey", "-in", str(signing), "-pubout"), "-out", f"{signing}.pub")
        lines = (
            f'{self.tokens[name]},{name},{name},"{",".join(groups)}"\n'
            for name, groups in users.items()
        )
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("".join(lines))

    def _etcd_argv(self, port: int) -> list[str]:
        url = f"http://127.0.0.1:{port}"
        return [
            str(etcd()),
            "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", "http://127.0.0.1:0",
        ]  # fmt: skip

    def _server_argv(self, bind_address: str, store_port: int) -> list[str]:
        folder = self.folder
        return [
            str(kube_apiserver()),
            f"--etcd-servers=http://127.0.0.1:{store_port}",
            f"--cert-dir={folder / 'certs'}",
            f"--tls-cert-file={self.ca_file}",
            f"--tls-private-key-file={folder / 'tls.key'}",
            f"--secure-port={self.port}",
            f"--bind-address={bind_address}",
            # Without it the server looks for a default route, which a namespace need not have.
            f"--advertise-address={self.addresses[0]}",
            "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'accounts.key.pub'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            # It refuses pods without a service account, and nobody makes those here.
            "--disable-admission-plugins=ServiceAccount",
        ]

    # Clients

    def kubeconfig(
        self, user: str = ADMIN, namespace: str | None = None, *, token: str | None = None
    ) -> Path:
        """A new kubeconfig file for `user`, or for whomever `token` stands."""
        context = {"cluster": "tests", "user": user} | (
            {"namespace": namespace} if namespace else {}
        )
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [
                {
                    "name": "tests",
                    "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)},
                }
            ],
            "users": [{"name": user, "user": {"token": token or self.tokens[user]}}],
            "contexts": [{"name": "tests", "context": context}],
        }
        path = self.folder / f"kubeconfig-{next(self._numbers)}.yaml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(body))
        return path

    # Between tests

    def snapshot(self) -> frozenset[str]:
        """The keys of all objects, for `restore`."""
        prefix = b"/registry/"
        wanted = {"key": _text64(prefix), "range_end": _text64(b"/registry0"), "keys_only": True}
        found = self._store_call("range", wanted).get("kvs", ())
        return frozenset(base64.b64decode(each["key"]).decode() for each in found)

    def restore(self, before: frozenset[str]) -> None:
        """Take away every object that came after `before`, whatever finalizers it has.

        It goes past the server, straight to etcd: through the server a namespace would never end,
        because that is the controller manager's work, and a webhook of the test that is gone would
        refuse. Watchers see ordinary deletions. Our kinds come back if they were deleted.
        """
        after = self.snapshot()
        extra = sorted(
            key
            for key in after - before
            if not key.removeprefix("/registry/").startswith(_KEPT_BY_THE_SERVER)
        )
        for some in (extra[at : at + 100] for at in range(0, len(extra), 100)):
            steps = [{"request_delete_range": {"key": _text64(key.encode())}} for key in some]
            self._store_call("txn", {"success": steps})
        self._bring_back_kinds(before)

    def _bring_back_kinds(self, before: frozenset[str]) -> None:
        """A deleted kind goes when the server has taken away its objects: only then it can come."""
        prefix = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
        wanted = {key.removeprefix(prefix) for key in before if key.startswith(prefix)}

        def dying() -> list[str]:
            crds = (crd["metadata"] for crd in self.list("CustomResourceDefinition"))
            return [each["name"] for each in crds if "deletionTimestamp" in each]

        wait_until(lambda: not dying(), seconds=30, what="deleted kinds are gone")
        there = {crd["metadata"]["name"] for crd in self.list("CustomResourceDefinition")}
        if wanted - there:
            self.apply_crds()

    def _store_call(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._store.request("POST", f"/v3/kv/{verb}", body)
        if answer.status != 200:
            raise RefusedError(f"etcd {verb}", answer.status, answer.body)
        return dict(answer.body)


def _text64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _end(daemon: Daemon) -> None:
    """SIGTERM; then by force, as kube-apiserver waits a minute for clients that stay connected."""
    if not daemon.running:
        return
    daemon.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.process.wait(timeout=3)
    daemon.kill()


class ApiServers:
    """Makes servers and takes every one of them away again."""

    def __init__(self) -> None:
        self._made: list[ApiServer] = []

    def make(self, *, crds: bool = True, **options: Any) -> ApiServer:
        """A started server (`options`: those of ApiServer), with our kinds unless not `crds`."""
        folder = Path(tempfile.mkdtemp(prefix=f"dt-api-{os.getpid()}-"))
        try:
            server = ApiServer(folder, **options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._made.append(server)
        server.start()
        if crds:
            server.apply_crds()
        return server

    def close(self) -> None:
        """Kill all of them."""
        while self._made:
            self._made.pop().close()


@pytest.fixture(scope="session")
def session_apiserver() -> Iterator[ApiServer]:
    """The server of the whole run, on loopback, with our kinds. Tests take `apiserver`."""
    made = ApiServers()
    try:
        yield made.make()
    finally:
        made.close()


@pytest.fixture
def apiserver(session_apiserver: ApiServer) -> Iterator[ApiServer]:
    """A server on loopback with our kinds and nothing else; each test finds it empty.

    A test may kill or stop it: it is started again for the next one.
    """
    session_apiserver.start()
    before = session_apiserver.snapshot()
    try:
        yield session_apiserver
    finally:
        session_apiserver.start()
        session_apiserver.restore(before)


@pytest.fixture
def apiservers() -> Iterator[ApiServers]:
    """Makes servers for one test, such as one in a network namespace that nodes reach."""
    made = ApiServers()
    try:
        yield made
    finally:
        made.close()
