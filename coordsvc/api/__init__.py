"""coordsvc.api."""
