"""The one exception of the state machine: its own records cannot be right.

Rule of this file: a refused operation is a `Failure` value, never an exception. What is raised here
means that the store is damaged or foreign, and that the member must stop.
"""


class CorruptStateError(Exception):
    """The records of the store contradict themselves; the message is one line that says where."""
