"""coordsvc.server."""
