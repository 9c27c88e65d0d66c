"""Computes the build id of workers before they are forked: see ``programs``.

Temporal makes it from the code of all imported modules.
"""

from temporalio.worker._worker import load_default_build_id

load_default_build_id()  # it is kept
