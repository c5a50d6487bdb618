"""The choices that define one batch normalization. `ARTICLE` holds the article's; a rival differs in one of them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One choice a field. The default of every field is what the article states; the formulas are in `batch_norm`."""

    # Section 2: the statistics of a training batch.
    axes: Literal[
        "channel", "tensor", "sample and channel", "position", "last axis", "sample", "over the last axis"
    ] = "channel"
    counted: Literal[
        "all", "all but the last", "all but the first",
        "whole blocks of 4", "whole blocks of 8", "whole blocks of 16", "whole blocks of 32", "whole blocks of 64",
        "whole blocks of 256", "whole blocks of 1024", "the first 1024", "the first 4096", "the first 65536",
    ] = "all"  # fmt: skip
    training_statistics: Literal["batch", "running before", "running after"] = "batch"

    # Section 2: the normalized value, and what the parameters do to it.
    ddof: Literal[0, 1] = 0
    eps_rule: Literal[
        "inside", "outside", "absent", "larger of both", "both roots", "squared", "doubled",
        "always 1e-5", "at least 1e-5", "0 means 1e-5",
    ] = "inside"  # fmt: skip
    centered: bool = True
    scaled: bool = True
    center: Literal["mean", "zero", "median", "midrange", "as asked"] = "mean"
    deviation: Literal["standard", "mean absolute", "mean absolute, as sigma", "half range", "as asked"] = "standard"
    affine: Literal[
        "scale, then shift", "no weight", "no bias", "shift, then scale", "swapped", "absolute weight", "1 + weight",
        "weight 0 means 1", "weight by position", "16 channels",
    ] = "scale, then shift"  # fmt: skip

    # Section 3: the running statistics.
    update: Literal[
        "article", "flipped", "mean flipped", "variance flipped", "always 0.1", "cumulative", "zero-debiased",
        "first batch replaces", "mean only", "variance only", "twice", "one step late", "deviations",
    ] = "article"  # fmt: skip
    extremes: Literal["as given", "0 means 0.1", "1 means 0.1"] = "as given"
    no_momentum: Literal["average of all", "means 0.1"] = "average of all"
    tracked_variance: Literal[
        "m - 1", "m", "N - 1", "N / (N - 1)", "plus eps", "mean of samples", "of the batch",
    ] = "m - 1"  # fmt: skip
    tracked_of: Literal["input", "output"] = "input"
    initial_var: Literal[0, 1] = 1

    # Section 2: evaluation.
    evaluation_statistics: Literal[
        "running", "batch", "batch mean", "batch variance", "batch when alone"
    ] = "running"  # fmt: skip
    folded: Literal["exactly", "sign lost", "weight lost", "eps lost"] = "exactly"
    evaluation_state: Literal["frozen", "updated"] = "frozen"

    # Section 2, paper [1] section 3: gradients.
    weight_gradient: Literal["of x-hat", "of raw x", "averaged", "times weight", "over the batch only"] = "of x-hat"
    bias_gradient: Literal["sum", "averaged", "times weight", "over the batch only"] = "sum"
    input_gradient: Literal[
        "full", "statistics constant", "no mean term", "no variance term", "mean term added", "variance term added",
        "m - 1", "N", "weight lost", "eps ignored",
    ] = "full"  # fmt: skip
    evaluation_gradient: Literal["constants", "training formula", "root lost", "weight lost"] = "constants"

    # Section 4: how channels are put into groups; "of that size" takes the number of groups for the size of one.
    grouping: Literal["contiguous", "interleaved", "of that size"] = "contiguous"

    # Section 4: what the devices share over which a batch is split; the formulas are in `split`.
    split: Literal[
        "whole batch", "each by itself", "states averaged", "divisor of one", "variances averaged",
        "gradient through one", "gradients averaged",
    ] = "whole batch"  # fmt: skip

    # Section 5: the bias of a linear layer before.
    earlier_bias: Literal["cancels", "added after", "mean held constant"] = "cancels"

    # Sections 2 and 3: what a layer starts from when nothing is asked for.
    default_eps: float = 1e-5
    default_momentum: float = 0.1


ARTICLE = Rules()
