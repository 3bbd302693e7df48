"""Who watches what on one member, and which watches a change fires. Pure."""
