"""Links between members: plain asyncio streams of length-prefixed PeerFrames. Design section 8.

Rule of this package: it carries frames and may lose them; it knows nothing of what they say, but for the
greeting. Memory is bounded whatever a peer or a stranger sends.
"""
