"""Python imports this at start-up when the folder is on PYTHONPATH: child processes run the host as the tests do."""

import cpu_host  # noqa: F401
