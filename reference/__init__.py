"""Batch normalization and its relatives in float64, under any rules: the ground truth. NumPy only."""

from normspec.reference import relatives, split
from normspec.reference.batch_norm import (
    Groups,
    affine_gradients,
    evaluate,
    evaluate_gradients,
    fold,
    inverse_root,
    normalize,
    statistics,
    train,
    train_gradients,
    update,
)
from normspec.reference.rules import ARTICLE, Rules

__all__ = [
    "ARTICLE",
    "Groups",
    "Rules",
    "affine_gradients",
    "evaluate",
    "evaluate_gradients",
    "fold",
    "inverse_root",
    "normalize",
    "relatives",
    "split",
    "statistics",
    "train",
    "train_gradients",
    "update",
]
