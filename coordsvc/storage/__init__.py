"""coordsvc.storage."""
