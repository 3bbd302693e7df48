"""The gRPC face of a member: translation between the wire and the replica, and errors as statuses."""
