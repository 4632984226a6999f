"""The cluster daemon: it judges what people write, and writes what came of it.

Belongs here: the admission webhook with its certificate and registration, which every replica
serves; and the loops of the one replica that leads (assignments, finalizers, status). Does not
belong here: the rules themselves (`api`), what is in the database (`ipam`), anything of one node.
"""
