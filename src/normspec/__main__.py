"""`python -m normspec` is `normspec`."""

import sys

from normspec.conformance.command import main

sys.exit(main())
