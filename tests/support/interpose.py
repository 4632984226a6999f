"""A middleman between a client and a server of the tests: it can fall silent, cut, and count."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import yaml

from support.apiserver import ApiServer, free_port
from support.httpjson import socket_inside
from support.netns import Namespace

_CHUNK = 1 << 16


class Interposer:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, and can be told to do something else.

    With `inside` it listens on the loopback of that namespace, at the port of the target: how a
    node reaches a server that listens on the machine's.
    """

    def __init__(self, target: int, *, inside: Namespace | None = None) -> None:
        self.port = target if inside else free_port()
        self.accepted = 0
        self.refusing = False
        self._target = target
        self._pumps: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._speaking = threading.Event()
        self._speaking.set()
        self._deaf: set[socket.socket] = set()
        self._listener = socket_inside(inside, self._listen) if inside else self._listen()
        threading.Thread(target=self._accept, name="interposer", daemon=True).start()

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self.port), backlog=64)

    def hush(self) -> None:
        """Say nothing more on any connection, open or new, and keep them all."""
        self._speaking.clear()

    def speak_anew(self) -> None:
        """Serve new connections; those that were open stay silent for ever (half open)."""
        with self._lock:
            self._deaf |= self._open
        self._speaking.set()

    def speak(self) -> None:
        """Go on where it stopped."""
        self._speaking.set()

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            ends = tuple(self._open)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, break every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._speaking.set()
        self.cut()
        for pump in self._pumps:
            pump.join(5)
        for end in tuple(self._open):  # those that stayed silent
            end.close()

    def kubeconfig(self, server: ApiServer, path: Path) -> Path:
        """A kubeconfig as of `server`, through here."""
        config = yaml.safe_load(server.kubeconfig().read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path.write_text(yaml.safe_dump(config))
        return path

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                pump = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                self._pumps.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._speaking.wait()
                if source not in self._deaf:
                    sink.sendall(data)
        if source in self._deaf:
            return
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                known = end in self._open
                self._open.discard(end)
            if known:
                end.close()
