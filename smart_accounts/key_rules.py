"""What a secret key in the settings must be like."""

MIN_KEY_LENGTH = 32
MIN_KEY_VARIETY = 10  # different characters
EXAMPLE_KEYS = {"for-trying-out-on-one-machine-only"}
"""Keys that documents and example files name."""
NOT_RANDOM = "must be random: make a key with openssl rand -base64 32"


def split_keys(keys: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.split(",") if key.strip())


def is_guessable(key: str) -> bool:
    """Return True for a key from an example, and for one with little variety."""
    return key in EXAMPLE_KEYS or len(set(key)) < MIN_KEY_VARIETY
