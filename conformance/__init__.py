"""The claims, the cases that decide them, and the pytest suite that runs them. `pytest conformance` starts it."""
