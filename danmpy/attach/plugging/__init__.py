"""Running pods whose annotations change: what comes, what leaves, and who tells of it."""
