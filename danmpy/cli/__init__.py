"""The `danmpy` command: one module a group of commands."""
