"""Bytes and protobuf messages on one side, domain values on the other. Pure.

Rule of this package: it translates and refuses (`MalformedError`); it decides nothing.
"""
