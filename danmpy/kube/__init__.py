"""The API server of a cluster: raw requests, watches that survive, the lease of a leader.

Belongs here: everything that knows the Kubernetes client or its transport, and the names of the
kinds that we read and write. Does not belong here: what the objects mean (`intent`, `mirrors`,
`controller`).
"""
