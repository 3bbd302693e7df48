"""coordsvc.replica."""
