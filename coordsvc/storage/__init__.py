"""What a member keeps on its disk: the log, the tree, its identity.

Rule of this package: only it imports plyvel, and the first failure is the last: a member that cannot
trust its disk stops (design, promise G9).
"""
