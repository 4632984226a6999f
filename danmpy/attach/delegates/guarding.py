"""What a delegate's configuration must not reach: other tenants' configurations, danmpy's devices.

The delegate would ask nobody, so it is looked at before the delegate is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.plan import ALIAS_PREFIX
from danmpy.attach.values import InterfaceSpec
from danmpy.errors import IntentError
from danmpy.kernel.hostlinks import LinkFacts
from danmpy.kernel.podnet import read_host_links
from danmpy.netwatcher.marks import ALTNAME_MAX_BYTES, MARK_PREFIX, is_ours

_NO_NAME: Final = re.compile(r"[\s/]")
"""What no link's name has (net/core/dev.c, dev_valid_name)."""


def require_admitted(spec: InterfaceSpec, conf: DelegateConf) -> None:
    """Does `conf` come from no file that `spec` must not be read from (`InterfaceSpec.barred`)? The
    name in a file and its plugin's type lead to it as well as its own name.

    Raises:
        IntentError: it does.
    """
    file = Path(conf.source).stem
    if owner := spec.barred.get(file):
        raise IntentError(
            f"interface {spec.name}: {spec.network.network_id} leads to the node's configuration "
            f"{file} of {owner}, whose AllowedTenants are without the pod's namespace",
            hint=f"ask the owner of {owner} to add the namespace, or name another network",
            subject=str(spec.network.key),
        )


def link_names(value: object) -> set[str]:
    """Every text in a configuration that can be a link's name, under whatever key: plugins call
    it master, bridge, device, link, and read the keys without regard to case.
    """
    if isinstance(value, str):
        fits = 0 < len(value.encode(errors="replace")) <= ALTNAME_MAX_BYTES
        return {value} if fits and value.isprintable() and not _NO_NAME.search(value) else set()
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, Sequence):
        return set().union(*map(link_names, value))
    return set()


def require_not_ours(named: Sequence[tuple[InterfaceSpec, set[str]]]) -> None:
    """Does no NetworkAttachmentDefinition stand on a device of danmpy's by its name? Who may be on
    such a wire is decided by its network, which would never be asked. `named` are the names that
    each one's configuration has in it.

    Raises:
        IntentError: one does; the message says on which.
        HostError: the kernel refused.
    """
    wanted = set().union(*(names for _, names in named))
    if not wanted:
        return
    hosts = read_host_links(wanted)
    for spec, names in named:
        for name in sorted(names & hosts.keys()):
            link = hosts[name]
            facts = LinkFacts(
                index=link.ifindex, name=name, kind=link.kind, alias=link.alias, group=link.group
            )
            if is_ours(facts) or link.alias.startswith(ALIAS_PREFIX):
                whose = link.alias.removeprefix(MARK_PREFIX) or "not yet marked"
                raise IntentError(
                    f"interface {spec.name}: its configuration names {name}, a device of danmpy's "
                    f"({whose})",
                    hint="write vlan or vxlan beside a master of the node's own, or let the pod "
                    "name the network of danmpy that the device belongs to",
                    subject=str(spec.network.key),
                )
