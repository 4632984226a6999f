"""The CNI entrypoint: a shim in C and the same one in Python, and the command that installs one.

Nothing of the rest of the package may be imported by `shim`: it is copied alone into the CNI
binary directory and its start-up time is part of every pod's start.
"""
