"""Which interfaces a pod gets, and how they come into its network namespace and leave it.

Belongs here: resolving a pod's declarations, the built-in backends, delegate plugins, the CNI
verbs, the journal of attachments, the server behind the socket. Does not belong here: allocation
of addresses (`ipam`), host devices (`netwatcher`), netlink (`kernel`).
"""
