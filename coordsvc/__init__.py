"""coordsvc: a coordination service. The map of its layers is docs/architecture.md."""
