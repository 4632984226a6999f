"""All wishes together: their sources, and the one door from raw manifests to trusted values.

Belongs here: documents out of files, verdicts on them, the sources (folder, cluster). Does not
belong here: the rules (`api`), and everything that asks what a host or a database looks like.
"""
