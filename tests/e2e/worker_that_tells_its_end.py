"""Run worker.py, and say so if its own last line did not end the process."""

import runpy

try:
    runpy.run_path("worker.py", run_name="__main__")
finally:
    print("the interpreter was finalized", flush=True)  # noqa: T201 - what the test looks for
