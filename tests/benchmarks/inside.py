"""A run in one process that tells how much of its time is spent inside the backend: `python inside.py NAME PROFILE`.

The last line printed is the CPU seconds of the whole run, without imports, and those inside the backend's functions.
"""

import os
import sys
import time

import pytest

from normspec import conformance
from normspec.conformance.trials import adapters

inside = 0.0
called = adapters.called


def clocked(function, *args, **options):
    """The same call; the time of the backend's function is added up, what the suite does around it is not."""

    def timed(*args, **options):
        global inside
        began = time.process_time()
        try:
            return function(*args, **options)
        finally:
            inside += time.process_time() - began

    return called(timed, *args, **options)


def main(name, profile):
    adapters.called = clocked  # before others import it
    adapters.open_backend(name)  # the framework's own import is nobody's time
    from normspec.conformance.verdicts.running import check_functions

    check_functions()
    began = time.process_time()
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "--in-process", "--scripts", os.devnull)
    pytest.main([conformance.__path__[0], "--backend", name, "--profile", profile, *options])
    print(time.process_time() - began, inside)


if __name__ == "__main__":
    main(*sys.argv[1:])
