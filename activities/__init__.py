"""What a request does to the world: one method per effect."""
