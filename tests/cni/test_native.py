"""The native shim beside the Python one: the same bytes out of both, whatever goes in.

What the bytes should be is in test_shim.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from danmpy.attach.handler import CniHandler
from danmpy.attach.metrics import CniMetrics
from danmpy.attach.server import CniServer
from danmpy.attach.wire import MAX_BLOCK, WireAnswer, encode_answer, read_request
from danmpy.cni import shim
from danmpy.cni.install import NATIVE_PROGRAM
from support.attaching import alone, assert_empty, declare_three, make_node, remove_node
from support.netns import Namespaces
from support.requirements import need
from support.shims import ALL, REPOSITORY, hatch_build, make_shim

SOCKET = b"@SOCKET@"
"""Stands for the path of the daemon's socket in what is fed to the shims."""

Ended = tuple[int, bytes, bytes]
"""Exit status, stdout, stderr."""

CUT = [0, 1, 4, 5, 6, 40]


class Daemon:
    """Answers each caller with the very bytes that it sent, or with less; ends with its thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = 0
        self.keep: int | None = None
        self.announce: int | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        heard = bytearray()

        def receive(size: int) -> bytes:
            part = connection.recv(size)
            heard.extend(part)
            return part

        read_request(receive)
        answer = encode_answer(WireAnswer(status=self.status, stdout=bytes(heard)))
        if self.announce is not None:
            answer = answer[:1] + self.announce.to_bytes(4, "big") + answer[5:]
        connection.sendall(answer[: self.keep])


class Shims:
    """All shims, and a daemon beside them."""

    def __init__(self, folder: Path) -> None:
        self.plugins = {kind: make_shim(kind, folder / kind) for kind in ALL}
        self.daemon = Daemon(folder / "s")

    def ended(self, stdin: bytes, environ: Mapping[bytes, bytes]) -> Ended:
        """What came of a call of each, which must be the same."""
        path = os.fsencode(self.daemon.path)
        ended = {}
        for kind, plugin in self.plugins.items():
            done = subprocess.run(
                [plugin],
                input=stdin.replace(SOCKET, path),
                env={key: value.replace(SOCKET, path) for key, value in environ.items()},
                capture_output=True,
                timeout=30,
            )
            ended[kind] = (done.returncode, done.stdout, done.stderr)
        assert ended["native"] == ended["python"]
        assert ended["sanitized"] == ended["python"]
        return ended["python"]


@pytest.fixture(scope="module")
def module_shims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shims]:
    shims = Shims(tmp_path_factory.mktemp("both"))
    yield shims
    shims.daemon.close()


@pytest.fixture
def shims(module_shims: Shims) -> Shims:
    daemon = module_shims.daemon
    daemon.status, daemon.keep, daemon.announce = 0, None, None
    return module_shims


STDINS = {
    "nothing": b"",
    "bad": b"{",
    "array": b"[1]",
    "null": b"null",
    "no utf-8": b'{"socket":"/x\xff\xc3"}',
    "surrogate in utf-8": b'{"socket":"/\xed\xa0\x80\xed\x9f\xbf"}',
    "longer than need be": b'{"socket":"/\xc1\xbf\xe0\x9f\xbf\xf0\x8f\xbf\xbf"}',
    "beyond the last": b'{"socket":"/\xf4\x8f\xbf\xbf\xf4\x90\x80\x80\xf8\x90\x80\x80"}',
    "latin": '{"socket":"/é\U0001f600\x7f"}'.encode(),
    "plain": b'{"cniVersion":"1.0.0","socket":"@SOCKET@"}',
    "blanks": b' \r\n\t{ "socket"\t:\r\n "@SOCKET@" , "cniVersion" : "0.4.0" } \n',
    "escaped key": b'{"\\u0073ocket":"@SOCKET@"}',
    "escaped value": b'{"socket":"\\/nowhere\\u002f\\ud83d\\ude00\\"\\\\\\b\\f\\n\\r\\t"}',
    "half a pair": b'{"socket":"\\ud83d"}',
    "two halves": b'{"socket":"\\ude00\\ud83d"}',
    "half, then no half": b'{"socket":"/\\ud83d\\u0041"}',
    "half, then no escape": b'{"socket":"\\ud83d\\n"}',
    "a byte by its surrogate": b'{"socket":"/\\udcff"}',
    "no escape": b'{"socket":"\\x"}',
    "escape cut off": b'{"socket":"\\u12"}',
    "signed digits": b'{"socket":"\\u+123"}',
    "NUL": b'{"socket":"/a\\u0000b"}',
    "raw NUL": b'{"socket":"/a\0b"}',
    "twice": b'{"socket":"/nowhere","socket":"@SOCKET@"}',
    "twice, then no text": b'{"socket":"@SOCKET@","socket":7}',
    "nested": b'{"a":{"socket":"/deep"},"b":[{"socket":"/deep"}],"socket":"@SOCKET@"}',
    "only nested": b'{"a":{"socket":"@SOCKET@"}}',
    "in a text": b'{"a":"{\\"socket\\":\\"/quoted\\"","socket":"@SOCKET@"}',
    "as a value": b'{"a":"socket","b":"x"}',
    "never closed": b'{"socket":"@SOCKET@',
    "key never closed": b'{"socket',
    "ends at the colon": b'{"socket":',
    "backslash at the end": b'{"socket":"@SOCKET@\\',
    "too long": b'{"socket":"/' + b"x" * 107 + b'"}',
    "as long as can be": b'{"socket":"/' + b"x" * 106 + b'"}',
    "version is no version": b'{"cniVersion":"\\"1.0","socket":"/n"}',
    "version is empty": b'{"cniVersion":"","socket":"/n"}',
    "version by escapes": b'{"cniVersion":"\\u0030.3.1","socket":"/n"}',
    "a folder": b'{"socket":"/"}',
    "below a file": b'{"socket":"/etc/passwd/x"}',
    "much": b'{"socket":"@SOCKET@","x":"' + b"y" * 2_000_000 + b'"}',
    "too much": b'{"cniVersion":"1.0.0","x":"' + b"y" * MAX_BLOCK + b'"}',
}
VERBS = (b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION", b"", b"\xff")


@pytest.mark.parametrize("stdin", STDINS.values(), ids=STDINS)
def test_every_configuration_comes_to_the_same(shims: Shims, stdin: bytes) -> None:
    for verb in VERBS if len(stdin) < 1_000_000 else (b"ADD", b"VERSION"):
        shims.ended(stdin, {b"CNI_COMMAND": verb, b"CNI_IFNAME": b"eth0"})


@pytest.mark.parametrize("status", [0, 1, 3, 255])
@pytest.mark.parametrize("keep", CUT)
def test_every_broken_answer_comes_to_the_same(shims: Shims, keep: int, status: int) -> None:
    shims.daemon.status, shims.daemon.keep = status, keep
    for verb in (b"ADD", b"STATUS"):
        ended = shims.ended(STDINS["plain"], {b"CNI_COMMAND": verb})
        assert b"broke off" in ended[1]


@pytest.mark.parametrize("announce", [0, 1, MAX_BLOCK, MAX_BLOCK + 1, 2**32 - 1])
def test_every_wrong_length_of_an_answer_comes_to_the_same(shims: Shims, announce: int) -> None:
    shims.daemon.announce = announce
    assert b"broke off" in shims.ended(STDINS["plain"], {b"CNI_COMMAND": b"ADD"})[1]


def test_what_the_daemon_says_comes_out_of_all_of_them(shims: Shims) -> None:
    shims.daemon.status = 7
    status, stdout, stderr = shims.ended(
        STDINS["plain"], {b"CNI_COMMAND": b"ADD", b"BAGGAGE": b"\xfe", b"HOME": b"/root"}
    )
    assert (status, stderr) == (7, b"")
    assert b"BAGGAGE=\xfe" in stdout
    assert b"HOME" not in stdout


@pytest.mark.parametrize("status", [0, 7])
def test_the_status_of_an_answer_that_nobody_takes_comes_to_the_same(
    shims: Shims, status: int
) -> None:
    shims.daemon.status = status
    for plugin in shims.plugins.values():
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0" >/dev/full', plugin],
            input=b"{}",
            env={"CNI_COMMAND": "ADD", "DANMPY_SOCKET": str(shims.daemon.path)},
        )
        assert done.returncode == (status or 1)


@pytest.mark.parametrize("given", [b"", b"@SOCKET@", b"/nowhere", b"/\xff\xfe" + b"x" * 200])
def test_every_socket_of_the_environment_comes_to_the_same(shims: Shims, given: bytes) -> None:
    shims.ended(b"{}", {b"CNI_COMMAND": b"ADD", b"DANMPY_SOCKET": given})


EXEC = """
import ctypes, sys
plugin, *entries = (word.encode() for word in sys.argv[1:])
libc = ctypes.CDLL(None)
libc.execve(
    plugin, (ctypes.c_char_p * 2)(plugin), (ctypes.c_char_p * (len(entries) + 1))(*entries)
)
sys.exit("execve failed")
"""


def test_an_environment_with_doubles_and_rubbish_comes_to_the_same(shims: Shims) -> None:
    entries = ["CNI_COMMAND=ADD", "CNI_A=1", "CNI_A=2", "CNI_NOTHING", "=x", "PATH=/a", "PATH=/b"]
    sockets = [f"DANMPY_SOCKET={shims.daemon.path}", "DANMPY_SOCKET=/nowhere"]
    ended = {
        kind: subprocess.run(
            [sys.executable, "-c", EXEC, plugin, *entries, *sockets, "CNI_=", "CNI_COMMAND=DEL"],
            input=b"{}",
            capture_output=True,
        )
        for kind, plugin in shims.plugins.items()
    }
    for done in ended.values():
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == ended["python"].stdout
        assert b"CNI_COMMAND=ADD\0CNI_A=1\0PATH=/a\0CNI_=" in done.stdout


_TOKENS = st.sampled_from(
    [
        *(b'"socket"', b'"cniVersion"', b'"\\u0073ocket"', b'"1.0.0"', b'"@SOCKET@"', b'"/n"'),
        *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b'\\"', b"\\u", b"\\ud83d", b"\\ude00"),
        *(b"\\udc80", b"\\n", b"\\x", b" ", b"\n", b"\0", b"\xff", "é".encode(), b"0", b"null"),
        *(b'{"socket":', b'"socket":"', b'{"cniVersion":"1'),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("@SOCKET@"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["socket", "cniVersion"]), inner)
    ),
    max_leaves=6,
)


def _dumped(document: Any, *, ascii_only: bool) -> bytes:
    return json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


STDIN = (
    st.binary(max_size=60)
    | st.lists(_TOKENS, max_size=14).map(b"".join)
    | st.builds(_dumped, _JSON, ascii_only=st.booleans())
    | st.builds(
        _dumped,
        st.fixed_dictionaries(
            {}, optional={"socket": _JSON | st.text(), "cniVersion": _JSON, "name": _JSON}
        ),
        ascii_only=st.booleans(),
    )
)
ENVIRON = st.dictionaries(
    st.sampled_from([b"CNI_ARGS", b"CNI_", b"PATH", b"TRACEPARENT", b"PATHS", b"HOME", b"cni_x"]),
    st.binary(max_size=20).map(lambda value: value.replace(b"\0", b"")),
)


@given(
    stdin=STDIN,
    environ=ENVIRON,
    verb=st.sampled_from(VERBS),
    given_socket=st.sampled_from([b"", SOCKET, b"/n\xc3"]),
    keep=st.none() | st.none() | st.integers(0, 300),
)
@example(stdin=b'{"socket":"/n"}', environ={}, verb=b"ADD", given_socket=b"", keep=None)
def test_whatever_is_fed_to_them_they_end_alike(
    module_shims: Shims,
    stdin: bytes,
    environ: dict[bytes, bytes],
    verb: bytes,
    given_socket: bytes,
    keep: int | None,
) -> None:
    module_shims.daemon.keep = keep
    module_shims.ended(stdin, {**environ, b"CNI_COMMAND": verb, b"DANMPY_SOCKET": given_socket})


# What only the native one is for


@alone()
def test_it_attaches_a_pod_in_a_root_file_system_that_holds_nothing_else(
    tmp_path: Path, namespaces: Namespaces
) -> None:
    need("root", "namespaces")
    root = tmp_path / "r"
    folder = root / "run" / "danmpy"
    folder.mkdir(parents=True)
    make_shim("native", root)
    node = make_node(tmp_path, namespaces)
    pod = namespaces.make("pod")
    environ = {
        "CNI_CONTAINERID": "c-web",
        "CNI_NETNS": str(pod.path),
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;K8S_POD_UID=uid-web",
        "CNI_PATH": "/opt/cni/bin",
    }

    def call(verb: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["/usr/sbin/chroot", root, "/danmpy-cni"],
            input=b'{"cniVersion":"1.1.0","name":"danmpy","type":"danmpy-cni"}',
            env={**environ, "CNI_COMMAND": verb},
            capture_output=True,
            timeout=30,
        )

    try:
        node.open()
        declare_three(node)
        handler = CniHandler(node.attacher, CniMetrics(CollectorRegistry()))
        server = CniServer(folder / "cni.sock", handler.answer)
        server.start()
        try:
            assert sorted(path.name for path in root.rglob("*") if not path.is_dir()) == [
                "cni.sock",
                "danmpy-cni",
            ]
            added = call("ADD")
            assert added.returncode == 0, added.stdout
            inside = [link for link in json.loads(added.stdout)["interfaces"] if "sandbox" in link]
            assert {link["name"] for link in inside} <= set(pod.links())
            assert call("DEL").returncode == 0
            assert_empty(pod, node, "c-web")
        finally:
            server.close()
        node.close()
    finally:
        remove_node(node)
    gone = call("ADD")
    assert (gone.returncode, json.loads(gone.stdout)["code"]) == (1, 11)


def test_it_is_small_and_asks_for_no_loader(tmp_path: Path) -> None:
    content = make_shim("native", tmp_path).read_bytes()
    assert len(content) < 1_500_000
    assert content.startswith(b"\x7fELF\x02\x01"), "the offsets below are for 64 bits"
    (start,) = struct.unpack_from("<Q", content, 32)  # elf(5): e_phoff, e_phentsize, e_phnum
    size, count = struct.unpack_from("<HH", content, 54)
    kinds = {struct.unpack_from("<I", content, start + size * each)[0] for each in range(count)}
    load, interpreter = 1, 3
    assert load in kinds
    assert interpreter not in kinds


def test_the_default_socket_is_the_same_one() -> None:
    source = (REPOSITORY / hatch_build().SOURCE).read_text()
    assert f'#define DEFAULT_SOCKET "{shim.DEFAULT_SOCKET.decode()}"' in source


# The build of it


def test_it_is_built_where_the_installer_looks_for_it() -> None:
    assert REPOSITORY / hatch_build().PROGRAM == NATIVE_PROGRAM


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("no-such-compiler", "no C compiler (no-such-compiler)"),
        ("false", "false: "),
        ("true", "No such file"),
    ],
)
def test_without_a_compiler_that_works_there_is_none_and_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, why: str
) -> None:
    program = tmp_path / "danmpy-cni"
    program.write_text("of yesterday")
    monkeypatch.setenv("CC", compiler)
    assert why in hatch_build().build(REPOSITORY / hatch_build().SOURCE, program)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_answer_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("cc")
    source = tmp_path / "danmpy-cni.c"
    source.write_text("int main(void) { return 3; }\n")
    program = tmp_path / "danmpy-cni"
    monkeypatch.setenv("CC", shutil.which("cc") or "")
    assert "does not work here (status 3)" in hatch_build().build(source, program)
    assert not program.exists()
