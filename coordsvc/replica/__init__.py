"""One member as a function: consensus, state machine, sessions, watches and reads glued together. Pure."""
