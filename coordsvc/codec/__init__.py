"""coordsvc.codec."""
