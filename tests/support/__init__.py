"""What the tests share: namespaces, daemons, databases, a guest kernel, and honest skips.

Belongs here: anything that two test folders need. Does not belong here: assertions about danmpy.
"""
