"""coordsvc.statemachine."""
