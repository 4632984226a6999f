"""Addresses and segments: pools, leases, assignments, the ledger and the questions asked of it."""
