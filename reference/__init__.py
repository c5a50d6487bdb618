"""Batch normalization and its relatives in float64, under any rules: the ground truth. NumPy only."""

from normspec.reference import relatives, split
from normspec.reference.batch_norm import (
    Groups,
    affine_gradients,
    center_share,
    evaluate,
    evaluate_gradients,
    fold,
    inverse_root,
    normalize,
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
    "Groups",
    "Rules",
    "affine_gradients",
    "center_share",
    "evaluate",
    "evaluate_gradients",
    "fold",
    "inverse_root",
    "normalize",
    "relatives",
    "root_sensitivity",
    "split",
    "statistics",
    "train",
    "train_gradients",
    "update",
    "variance_share",
]
