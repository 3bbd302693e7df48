"""coordsvc.transport."""
