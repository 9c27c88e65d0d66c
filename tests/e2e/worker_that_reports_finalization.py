"""Run worker.py, and print a line if the interpreter is finalized at the end."""

import runpy

try:
    runpy.run_path("worker.py", run_name="__main__")
finally:
    print("the interpreter was finalized", flush=True)  # noqa: T201 - the test looks for this line
