"""The CNI entrypoint: a shim of standard library only, and the command that installs it.

Nothing of the rest of the package may be imported by `shim`: it is copied alone into the CNI
binary directory and its start-up time is part of every pod's start.
"""
