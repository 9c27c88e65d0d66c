"""What a request does to the world: one method an effect."""
