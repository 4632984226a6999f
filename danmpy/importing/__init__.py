"""What other tools know of addresses in use, read and set beside what is known here. Pure.

Belongs here: the formats of those tools (DANM, whereabouts, host-local), and which network and
owner an address of theirs belongs to. Does not belong here: the leases that are made of it
(`ipam.adopting`), and opening files.

A *holding* is one address that another tool counts as in use.
"""
