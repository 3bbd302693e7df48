"""The demonstration: a cluster and seven programs, killed and restarted, and what must hold all the while."""
