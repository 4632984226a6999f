"""Mirrors of this node: what its facts look like to the cluster, written behind the answer.

A mirror is written from facts (the journal of attachments, the last look at the host) and never
read back as one; lost or wrong, it is written again. The deciding modules are `endpoints`
(DanmEps), `network_status` (the NPWG annotation of a pod), `events`, `nodereport` (rows for the
controller) and `vteps` (this node's tunnel ends); each has its writer, and `writer` is the one
thread that runs those. Does not belong here: anything that an ADD waits for.
"""
