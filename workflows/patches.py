"""Patches of the workflows that this release knows, but does not activate yet.

A patch takes two releases, so that a deploy can be rolled back: CONTRIBUTING.md says how.
"""

from temporalio.worker import PatchActivationInput

NOT_ACTIVE_YET: frozenset[str] = frozenset()
"""The ids of these patches. The next release removes them from here."""


def is_activated(patch: PatchActivationInput) -> bool:
    """Return whether a request that meets a patch for the first time takes its new branch."""
    return patch.patch_id not in NOT_ACTIVE_YET
