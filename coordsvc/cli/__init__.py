"""coordsvc.cli."""
