"""What the claims page explains, in English and in Chinese: topics, terms, notation and verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass

from normspec.conformance.verdicts.verdicts import Kind


@dataclass(frozen=True)
class Words:
    """The same thing in both languages."""

    english: str
    chinese: str


@dataclass(frozen=True)
class Legend:
    """A verdict as the page shows it: a sign, which needs no colour, its Chinese name, and what it means."""

    sign: str
    name: str
    meaning: Words


TOPICS: Mapping[str, Words] = {
    "statistics": Words("The statistics of a batch", "批次统计量"),
    "normalize": Words("The normalized value", "归一化"),
    "affine": Words("Weight and bias", "缩放与平移"),
    "evaluate": Words("Evaluation", "评估模式"),
    "gradient": Words("Gradients", "梯度"),
    "running": Words("Running statistics", "移动统计量"),
    "layer": Words("The layer", "层"),
    "precision": Words("Precision", "数值精度"),
    "example": Words("The article's experiment", "文章中的实验"),
    "relatives": Words("Relatives", "变体"),
    "usage": Words("Usage", "使用要点"),
    "why": Words("Why it works", "为什么有效"),
    "hygiene": Words("Hygiene", "良好的行为"),
}
"""What the first part of a claim's id is about, in English and in Chinese."""

INTRODUCTION: tuple[Words, ...] = (
    Words(
        "This is what normspec checks of a batch normalization and its relatives, claim by claim.",
        "这里逐条列出 normspec 对批归一化及其变体所检查的全部内容。",
    ),
    Words(
        "A claim is one statement that an implementation keeps or breaks. It comes from one well-known article (its "
        "section is named), from a paper ([1] is Ioffe & Szegedy 2015, arXiv 1502.03167) or from good practice. Behind "
        "it is one check, which decides it from the implementation's behaviour alone.",
        "规范条目（claim）是一句可以判定真假的陈述：一个实现要么遵守它，要么违背它。条目出自一篇广为流传的文章（注明章节）、"
        "论文（[1] 指 Ioffe & Szegedy 2015，arXiv 1502.03167）或良好的工程实践。"
        "每个条目对应一项检查，只凭实现的行为作出判定。",
    ),
    Words(
        "A rival is what people do instead: another formula, or a mistake. A claim counts as held only where the data "
        "have refuted every rival, so that a deviation is not just noticed but named.",
        "对立做法（rival）是人们实际采用的另一种做法：另一个公式，或者一个错误。只有数据排除了所有对立做法，条目才算成立；"
        "因此一旦出现偏离，不仅能发现，还能指出它是哪一种。",
    ),
    Words(
        "A verdict is what a run found for one claim, one backend and one dtype.",
        "判定（verdict）是一次运行对某个条目、某个后端、某种数据类型得出的结论。",
    ),
)

VERDICTS: Mapping[Kind, Legend] = {
    Kind.CONFORMS: Legend(
        "✓",
        "符合",
        Words(
            "agrees with the claim on every case, and every rival was refuted; in brackets the value or grade found",
            "在所有用例上与条目一致，且所有对立做法都被排除；括号内是测得的值或等级",
        ),
    ),
    Kind.DEVIATES: Legend("≠", "偏离", Words("agrees with the named rival instead", "与所列的那种对立做法一致")),
    Kind.FAILS: Legend("✗", "不符", Words("agrees with no formula that the suite knows", "与任何已知公式都不一致")),
    Kind.INCONCLUSIVE: Legend(
        "?",
        "无法判定",
        Words("the data cannot decide, in this dtype or at all", "数据不足以判定（仅此数据类型，或一概如此）"),
    ),
    Kind.NOT_OFFERED: Legend(
        "–", "未提供", Words("the backend has no such operation, dtype or rank", "后端没有这种运算、数据类型或维数")
    ),
    Kind.CRASHED: Legend(
        "!", "崩溃", Words("raised an exception, or returned what cannot be used", "抛出异常，或返回了无法使用的结果")
    ),
    Kind.HUNG: Legend("∞", "无响应", Words("gave no answer in time", "没有在限定时间内返回")),
}

DECLARED = Words(
    "A verdict marked * is a deviation that the backend's adapter declares, with its reason.",
    "带 * 的判定表示后端的适配器已声明这一偏离，并给出理由。",
)

NOTATION: tuple[tuple[str, Words], ...] = (
    (
        r"x_{ncs}",
        Words(
            "sample n of N, channel c of C, place s of S = H × W",
            "第 n 个样本（共 N 个）、第 c 个通道（共 C 个）、第 s 个空间位置（S = H × W）",
        ),
    ),
    (
        r"m, i",
        Words(
            "the number of values that share their statistics; i runs over them",
            "共用一组统计量的元素个数；i 遍历这些元素",
        ),
    ),
    (
        r"\mu, \sigma^2, \mu_B, \sigma_B^2",
        Words(
            "their mean and variance with divisor m; B: of a batch", "它们的均值和方差（除以 m）；下标 B 表示一个批次"
        ),
    ),
    (
        r"s_B^2, \mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2",
        Words(
            "the batch's variance as it is tracked; running mean and variance",
            "记入移动统计量的批次方差；移动均值和移动方差",
        ),
    ),
    (r"\hat{x}, \gamma, \beta", Words("x-hat, the normalized value; weight; bias", "归一化后的值；weight；bias")),
    (r"\alpha, \varepsilon", Words("momentum, the weight of the new value; eps", "momentum，即新值所占的权重；eps")),
    (
        r"\mathrm{d}x, \mathrm{d}y, g",
        Words("gradients of the loss for x and y; γ dy", "损失对 x 和 y 的梯度；γ dy"),
    ),
    (r"\mathrm{mean}(g)", Words("the mean of g over i", "g 对 i 的平均")),
)
"""What the formulas' letters mean."""
