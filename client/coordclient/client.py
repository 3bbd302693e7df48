"""`AsyncClient`: the operations, with shortcuts to the recipes.

Rule of this file: shortcuts only. Recipes take a client, never the reverse.
"""

from __future__ import annotations

from coordclient.operations import Operations


class AsyncClient(Operations):
    """A client of the coordination service, for asyncio. `Client` is the same for threads."""
