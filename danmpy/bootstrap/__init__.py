"""The one wiring place: builds every process and every reader from its settings.

`readers` is what the commands need, also while the daemons are down; `node` and `controller` run
the two daemons; `process` is what every daemon does. Nothing here decides anything.
"""
