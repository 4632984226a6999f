"""STATUS of the network that every pod gets first, when a configuration of the node makes it.

A runtime must not take the node for ready before that network is (NPWG 1.3, section 3.3), and its
plugins know more of themselves than their file (CNI specification 1.1.0, STATUS). Other networks
are not asked: one of them must not take the whole node out of service.
"""

from __future__ import annotations

from danmpy.api.dialects.rules import DialectRules, reference_key
from danmpy.attach.deciding.resolve import node_conf
from danmpy.attach.delegates.calling import Delegates


def require_default_network(rules: DialectRules, delegates: Delegates) -> None:
    """Could that network be given to a pod now? Plugins before CNI 1.1.0 are only looked for; with
    another kind of default network nothing is.

    Raises:
        NotReadyError: the configuration or a plugin is missing.
        IntentError: the configuration is wrong.
        UnavailableError: a plugin says no.
        DelegateError: a plugin failed otherwise, or hangs.
    """
    if not rules.default_network:
        return
    key = reference_key(rules.default_network)
    if not key.is_object:
        delegates.status(delegates.render(node_conf(key)))
