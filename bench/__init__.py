"""Measurements against real clusters. Timings live here, never in tests."""
