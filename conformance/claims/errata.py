"""Where the article errs, and what the claims take instead."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Erratum:
    """A place where the article says one thing and must mean another, in English and in Chinese."""

    claims: tuple[str, ...]
    """The claims that depend on it."""
    english: str
    chinese: str


ERRATA = (
    Erratum(
        ("relatives.group-norm", "relatives.group-norm-gradients"),
        "Section 4 counts the values of a group of group norm as G × H × W. With the channels in G groups, a group has "
        "C / G of them, and so (C / G) × H × W values (Wu & He 2018, arXiv 1803.08494). The claims take the latter.",
        "第 4 节把组归一化中每组的元素个数写成 G × H × W。通道分成 G 组时，每组有 C / G 个通道，"
        "因此每组应有 (C / G) × H × W 个元素（Wu & He 2018，arXiv 1803.08494）。本规范以后者为准。",
    ),
    Erratum(
        ("normalize.population-variance", "running.sample-variance"),
        "Section 3 calls σ² a population and a sample “standard deviation”, beside formulas of variances, with divisor "
        "m and m - 1. The formulas decide: both are variances, and no claim is about averaged deviations.",
        "第 3 节把 σ² 称为总体“标准差”和样本“标准差”，而所列公式是除数为 m 和 m - 1 的方差。以公式为准："
        "二者都是方差，移动平均的对象也是方差，不是标准差。",
    ),
)
"""All that are known."""
