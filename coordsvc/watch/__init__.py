"""coordsvc.watch."""
