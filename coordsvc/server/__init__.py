"""The runtime of one member: asyncio around the pure replica. The composition root is `main`."""
