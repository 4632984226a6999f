"""A container of deploy/ as a runtime would run it, made of unshare, mount, chroot and setpriv.

The root is this machine's, under an overlay that cannot be written; what the pod mounts is there
and nothing else is writable; /proc/sys can only be read; user and capabilities are those of the
manifest. What it has not: the image, seccomp, security modules, cgroups.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.deploying import Container
from support.processes import REPOSITORY

REAL = ("/run/netns", "/proc/sys/net")
"""Paths of the host that are taken as they are; all others are under a folder of the test."""

_PROGRAM = "/opt/danmpy"
_SOURCE = "/opt/danmpy-source"
_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"


class Sandbox:
    """Where one container runs. `host` stands for the host's file system, `config` for the
    ConfigMap's file, `account` for the folder with the token; containers of one host share `host`.
    """

    def __init__(
        self,
        box: Container,
        folder: Path,
        *,
        host: Path,
        config: Path,
        account: Path | None = None,
    ) -> None:
        self.box = box
        self.host = host
        self._folder = folder
        self._config = config
        self._account = account
        for name in ("root", "upper", "work", "config", "empty"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name).chmod(0o755)

    def on_host(self, path: str) -> Path:
        """Where a path of the host is in truth."""
        return Path(path) if path in REAL else self.host / path.lstrip("/")

    def danmpy_argv(self, *words: str, capabilities: Sequence[str] | None = None) -> list[str]:
        """The command line of ``danmpy words...``; without words it is that of the manifest."""
        words = words or tuple(self.box.spec["args"])
        program = (f"{_PROGRAM}/bin/python", "-m", "danmpy.cli.main")
        return self.argv(
            "env", f"PYTHONPATH={_SOURCE}", *program, *words, capabilities=capabilities
        )

    def argv(self, *argv: str, capabilities: Sequence[str] | None = None) -> list[str]:
        """The command line that runs `argv` in the container, in the caller's network namespace.

        `capabilities`: instead of those that the manifest adds.
        """
        root, upper, work = (self._folder / name for name in ("root", "upper", "work"))
        lines = [
            "set -e",
            f"mount -t overlay dt -o lowerdir=/,upperdir={upper},workdir={work} {root}",
            *_bind(REPOSITORY, f"{root}{_SOURCE}"),
            *_bind(Path(sys.prefix), f"{root}{_PROGRAM}"),
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /sys {root}/sys",
            f"mount --rbind /dev {root}/dev",
            *self._mounts(root),
            *(_bind(self._account, f"{root}{_ACCOUNT}") if self._account else ()),
            f"mount --bind {root}/proc/sys {root}/proc/sys",
            f"mount -o remount,bind,ro {root}/proc/sys",
            f"mount -o remount,ro {root}",
            f"exec chroot {root} setpriv {self._privileges(capabilities)} {shlex.join(argv)}",
        ]
        # "slave": what the host mounts comes in, what is mounted here stays here.
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "\n".join(lines)]

    def _mounts(self, root: Path) -> Iterator[str]:
        hosts = self.box.host_paths
        for target, mount in sorted(self.box.mounts.items()):
            if target in hosts:
                source = self.on_host(hosts[target])
                source.mkdir(parents=True, exist_ok=True)
            elif target == "/etc/danmpy":
                source = self._folder / "config"
                (source / "config.yaml").write_text(self._config.read_text())
            else:
                source = self._folder / "empty"
                source.chmod(0o1777)
            yield from _bind(source, f"{root}{target}")
            if mount.get("mountPropagation") != "HostToContainer":
                yield f"mount --make-private {root}{target}"
            if mount.get("readOnly"):
                yield f"mount -o remount,bind,ro {root}{target}"

    def _privileges(self, capabilities: Sequence[str] | None) -> str:
        security = {**self.box.pod.get("securityContext", {}), **self.box.spec["securityContext"]}
        given = security["capabilities"].get("add", ())
        kept = given if capabilities is None else capabilities
        bounding = ",".join(["-all", *(f"+{each.lower()}" for each in kept)])
        return (
            f"--no-new-privs --bounding-set={bounding} --inh-caps=-all"
            f" --reuid={security['runAsUser']} --regid={security['runAsGroup']} --clear-groups"
        )


def _bind(source: Path, target: str) -> Iterator[str]:
    yield f"mkdir -p {shlex.quote(target)}"
    yield f"mount --rbind {shlex.quote(str(source))} {shlex.quote(target)}"
