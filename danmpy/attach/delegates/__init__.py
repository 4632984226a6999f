"""Delegate plugins: their configurations found, rendered and called, their answers read."""
