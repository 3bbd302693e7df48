"""Recipes: locks, elections, service discovery. Each takes a client; each is written once, for asyncio."""
