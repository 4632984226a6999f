"""What people write, and what it means: pure models, values and rules.

Belongs here: the manifests of every kind, the pod annotations, the CNI wire types, the admission
rules, the CRDs, the limits. Does not belong here: anything that reads a file, a database, a kernel
or a clock.
"""
