"""Addresses and segments: pools and picking (pure), leases, assignments, the ledger and the questions asked of it."""
