"""coordsvc.raft."""
