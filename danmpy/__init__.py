"""Tenant networks for Kubernetes pods: declared networks, attached interfaces, audited addresses.

Nothing is imported here: the CNI shim lives in this package and pays for every import with the
start-up time of each pod.
"""

__version__ = "0.1.0"
