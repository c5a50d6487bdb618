"""normspec: an executable specification of batch normalization.

The three packages live at the top of the checkout and appear here under one name, through links, so that an
installed copy occupies a single name and every tool (type checkers included) resolves the same imports.
"""

__version__ = "0.1.0"
