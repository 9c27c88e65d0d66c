"""The secret keys of the tests."""

KEY = "a-key-for-tests-that-is-long-enough-to-be-one"

OLD_KEY = "old-key-of-at-least-thirty-two-characters"
NEW_KEY = "new-key-of-at-least-thirty-two-characters"
