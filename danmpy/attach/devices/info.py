"""Device information files: what device plugins and CNI plugins tell of a device.

Network Plumbing Working Group, "Device Information Specification" 1.1: the device plugin describes
a device in a file of the folder ``dp``. Before ADD it is copied to the folder ``cni``, where the
CNI plugin may change it (capability ``CNIDeviceInfoFile``), after ADD it is told in the pod's
network status, and after DEL the copy goes. A missing file is no error anywhere.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from danmpy.api.addresses import TextError
from danmpy.api.jsontext import parse_json

_log = structlog.get_logger(__name__)

DEFAULT_FOLDER: Final = Path("/var/run/k8s.cni.cncf.io/devinfo")
_MAX_SIZE: Final = 64 * 1024
"""Bytes; a description is a few hundred, and it ends up in an annotation of at most 256 KiB."""


class DeviceInfoFiles:
    """The files below `folder`."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self._plugins = folder / "dp"
        self._ours = folder / "cni"

    def path(self, container_id: str, interface: str) -> str:
        """The file that the CNI plugin of this interface may write."""
        name = f"{container_id}-{interface}"
        if "/" in name or len(name.encode()) > 200:
            name = hashlib.sha256(name.encode()).hexdigest()
        return str(self._ours / f"danmpy-{name}-device.json")

    def prepare(self, path: str, resource: str, device_id: str) -> None:
        """Copy what the device plugin says of the device to `path`, which is new afterwards."""
        said = self._read(self._plugin_file(resource, device_id)) if device_id else b""
        try:
            self._ours.mkdir(parents=True, exist_ok=True)
            temporary = Path(f"{path}.new")
            with suppress(FileNotFoundError):
                Path(path).unlink()
            if said:
                temporary.write_bytes(said)
                temporary.rename(path)
        except OSError as error:
            # Plugins make the folder themselves when they need it: no reason to refuse a pod.
            _log.warning("device information not copied", file=path, problem=error.strerror)

    def read(self, path: str, resource: str, device_id: str) -> str:
        """What is known of the device after ADD, as JSON text: what the CNI plugin left, else what
        the device plugin said; empty when nobody said anything that can be read.
        """
        for file in (Path(path), self._plugin_file(resource, device_id) if device_id else None):
            text = _checked(self._read(file), file) if file else ""
            if text:
                return text
        return ""

    def remove(self, path: str) -> None:
        """Take the copy away; absent is success."""
        try:
            os.unlink(path)  # noqa: PTH108 - the journal keeps a text
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("device information not removed", file=path, problem=error.strerror)

    def _plugin_file(self, resource: str, device_id: str) -> Path:
        name = f"{resource}-{device_id}-device.json"
        return self._plugins / name.replace("/", "-")

    def _read(self, file: Path) -> bytes:
        try:
            with file.open("rb") as source:
                return source.read(_MAX_SIZE + 1)
        except OSError:
            return b""


def _checked(data: bytes, file: Path) -> str:
    """`data` as text when it is a JSON object of a bearable size."""
    if not data:
        return ""
    try:
        text = data.decode()
        document: Any = parse_json(text) if len(data) <= _MAX_SIZE else None
    except (TextError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict):
        _log.warning("device information unusable", file=str(file))
        return ""
    return text
