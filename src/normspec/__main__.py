"""`python -m normspec` is the `normspec` command."""

from normspec.conformance.command import main

raise SystemExit(main())
