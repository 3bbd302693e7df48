"""Client SDK of coordsvc."""
