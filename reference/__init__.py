"""Batch normalization and its relatives in float64: the ground truth. NumPy only.

`article` holds the article's formulas, and is the file to read first. `rivals` holds what people do instead, `rules`
names the choices, and `batch_norm`, `relatives`, `split` and `linear` compute under any of them.
"""

from normspec.reference import relatives, split
from normspec.reference.batch_norm import (
    Statistics,
    affine_gradients,
    center_share,
    evaluate,
    evaluate_gradients,
    fold,
    inverse_root,
    normalize,
    normalized,
    root_sensitivity,
    statistics,
    train,
    train_gradients,
    update,
    variance_share,
)
from normspec.reference.rules import ARTICLE, Rules

__all__ = [
    "ARTICLE",
    "Rules",
    "Statistics",
    "affine_gradients",
    "center_share",
    "evaluate",
    "evaluate_gradients",
    "fold",
    "inverse_root",
    "normalize",
    "normalized",
    "relatives",
    "root_sensitivity",
    "split",
    "statistics",
    "train",
    "train_gradients",
    "update",
    "variance_share",
]
