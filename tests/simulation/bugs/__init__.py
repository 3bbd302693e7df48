"""The bug bank: classic mistakes as small patches, each of which the simulator must find.

Rule of this package: a bug changes the product, never the simulator or a checker, and it must compile.
"""
