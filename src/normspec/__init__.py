"""normspec: an executable specification of batch normalization.

Its three parts are the folders `reference`, `backends` and `conformance` at the top of the checkout; installed, they
are packages of this one (see `tool.setuptools.package-dir` in pyproject.toml).
"""

__version__ = "0.1.0"
