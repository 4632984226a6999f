"""The network interface of a device that a device plugin gave away."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from danmpy.errors import HostError
from danmpy.kernel.linkmessages import set_link
from danmpy.kernel.rtnl import RtnlSocket

SYS: Final = Path("/sys")
_BUSES: Final = ("pci", "auxiliary")
"""Virtual functions, and scalable functions (Linux: Documentation/driver-api/auxiliary_bus)."""


def read_netdev(device_id: str, resource: str, sys: Path = SYS) -> str:
    """The link of this host that is the device `device_id`: a PCI address, an auxiliary device, or
    for some device plugins the link's own name.

    Raises:
        HostError: there is none: no such device, one in use by a pod already, or one whose driver
            is not the kernel's (vfio-pci).
    """
    if "/" not in device_id and device_id not in {"", ".", ".."}:
        for bus in _BUSES:
            names = sorted(
                each.name for each in (sys / f"bus/{bus}/devices" / device_id).glob("net/*")
            )
            if names:
                return names[0]
        if (sys / "class/net" / device_id).exists():
            return device_id
    raise HostError(
        f"device {device_id} has no network interface on this node",
        hint="is it bound to the kernel's driver, and not in another pod's namespace?",
        subject=resource,
    )


def raise_link(name: str) -> None:
    """Set a link of this host up: device plugins leave theirs down, and nothing gets through then.

    Raises:
        HostError: there is no such link, or it cannot be up.
    """
    try:
        with closing(RtnlSocket()) as rtnl:
            (reply,) = rtnl.ask([set_link(0, name=name, up=True)])
    except OSError as error:
        raise HostError(
            f"cannot set link {name} up: {error.strerror or error}",
            hint="see the kernel log of this node",
            subject=name,
        ) from error
    if reply.error:
        raise HostError(
            f"cannot set link {name} up: {reply.refusal}",
            hint="see the kernel log of this node",
            subject=name,
        )
