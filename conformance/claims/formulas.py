r"""The formulas of the claims and of their rivals, in LaTeX, for the claims page.

x has N samples of C channels with S places each (x_{ncs}, or x_{nchw} where places are rows and columns), and i runs
over the m values that share their statistics. mu and sigma^2 are their mean and m-variance; with the index B they are
the batch's, with "run" the tracked ones, and s_B^2 is the batch's variance as it is tracked. gamma is weight, beta is
bias, alpha is momentum, g is gamma times dy, and mean( ) is taken over i.

Markdown takes some of LaTeX for its own: formulas have no backslash before punctuation, no bar, star, backtick or angle
bracket, no link, and "_" behind letters and digits alone. GitHub refuses operatorname, so names are in mathrm.
"""

from collections.abc import Mapping

from normspec.conformance.claims.claims import Claim, Rival

_STATE = r"(\mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2)"
_ROOT = r"\sqrt{\sigma^2 + \varepsilon}"
_ROOT_B = r"\sqrt{\sigma_B^2 + \varepsilon}"
_ROOT_RUN = r"\sqrt{\sigma_{\mathrm{run}}^2 + \varepsilon}"
_OWN_SHARES = (
    rf"\mathrm{{d}}x = \frac{{g - \mathrm{{mean}}(g) - \hat{{x}} \cdot \mathrm{{mean}}(g \hat{{x}})}}{{{_ROOT}}}"
)
_WIDE = r"u \le 2^{-24}"


def _update(of_mean: str, of_variance: str = r"s_B^2") -> str:
    """Both running statistics, mixed with what is given."""
    return (
        rf"\mu_{{\mathrm{{run}}}} \leftarrow (1 - \alpha) \mu_{{\mathrm{{run}}}} + \alpha {of_mean}, \quad "
        rf"\sigma_{{\mathrm{{run}}}}^2 \leftarrow (1 - \alpha) \sigma_{{\mathrm{{run}}}}^2 + \alpha {of_variance}"
    )


def _within_sample(index: str, values: str, size: str) -> str:
    """x-hat and y, where each group of values is normalized by itself."""
    return (
        rf"\mu_{{{index}}} = \frac{{1}}{{m}} \sum_{{{values}}} x_{{ncs}}, \quad "
        rf"\sigma_{{{index}}}^2 = \frac{{1}}{{m}} \sum_{{{values}}} (x_{{ncs}} - \mu_{{{index}}})^2, \quad m = {size}, "
        rf"\quad y_{{ncs}} = \gamma_c \frac{{x_{{ncs}} - \mu_{{{index}}}}}"
        rf"{{\sqrt{{\sigma_{{{index}}}^2 + \varepsilon}}}} + \beta_c"
    )


def _shares(inner: str, root: str = _ROOT) -> str:
    return rf"\mathrm{{d}}x = \frac{{{inner}}}{{{root}}}"


FORMULAS: Mapping[str, str] = {
    # -- section 2: normalization in training --------------------------------------------------------------------------
    "statistics.per-channel": r"\mu_c = \frac{1}{m} \sum_{n, s} x_{ncs}, \quad "
    r"\sigma_c^2 = \frac{1}{m} \sum_{n, s} (x_{ncs} - \mu_c)^2, \quad m = N S",
    "normalize.uses-batch-statistics": rf"\hat{{x}} = \frac{{x - \mu_B}}{{{_ROOT_B}}}",
    "normalize.population-variance": r"\sigma_B^2 = \frac{1}{m} \sum_{i=1}^{m} (x_i - \mu_B)^2",
    "normalize.eps-inside-root": rf"\hat{{x}} = \frac{{x - \mu}}{{{_ROOT}}}",
    "normalize.eps-default": r"\varepsilon = 10^{-5}",
    "normalize.centered": r"\frac{1}{m} \sum_{i=1}^{m} \hat x_i = 0",
    "normalize.unit-spread": r"\frac{1}{m} \sum_{i=1}^{m} \hat x_i^2 = \frac{\sigma^2}{\sigma^2 + \varepsilon}",
    "normalize.constant-channel": r"\sigma^2 = 0, \varepsilon \gt 0 \quad \Rightarrow \quad y = \beta",
    "normalize.batch-coupling": r"y_n = \gamma \frac{x_n - \mu(x_1, \ldots, x_N)}"
    r"{\sqrt{\sigma^2(x_1, \ldots, x_N) + \varepsilon}} + \beta",
    "affine.scale-then-shift": r"y_{ncs} = \gamma_c \hat x_{ncs} + \beta_c",
    "affine.defaults": r"\gamma_c = 1, \quad \beta_c = 0",
    "affine.can-undo": rf"\gamma = {_ROOT_B}, \quad \beta = \mu_B \quad \Rightarrow \quad y = x",
    # -- section 2: evaluation -----------------------------------------------------------------------------------------
    "evaluate.folded": rf"y = \frac{{\gamma}}{{{_ROOT_RUN}}} x + "
    rf"\left( \beta - \frac{{\gamma \mu_{{\mathrm{{run}}}}}}{{{_ROOT_RUN}}} \right)",
    "evaluate.running-statistics": rf"y = \gamma \frac{{x - \mu_{{\mathrm{{run}}}}}}{{{_ROOT_RUN}}} + \beta",
    "evaluate.sample-alone": r"y_n(x_1, \ldots, x_N) = y(x_n)",
    "evaluate.frozen": rf"{_STATE} \leftarrow {_STATE}",
    "evaluate.before-training": r"\mu_{\mathrm{run}} = 0, \quad \sigma_{\mathrm{run}}^2 = 1 \quad \Rightarrow \quad "
    r"y = \frac{x}{\sqrt{1 + \varepsilon}}",
    # -- section 2: gradients ------------------------------------------------------------------------------------------
    "gradient.input": rf"{_OWN_SHARES}, \quad g = \gamma \mathrm{{d}}y, \quad "
    r"\mathrm{mean}(g) = \frac{1}{m} \sum_{i=1}^{m} g_i",
    "gradient.evaluation": rf"\mathrm{{d}}x = \frac{{\gamma \mathrm{{d}}y}}{{{_ROOT_RUN}}}",
    "gradient.weight": r"\mathrm{d}\gamma_c = \sum_{n, s} \mathrm{d}y_{ncs} \hat x_{ncs}",
    "gradient.bias": r"\mathrm{d}\beta_c = \sum_{n, s} \mathrm{d}y_{ncs}",
    # -- section 3: running statistics ---------------------------------------------------------------------------------
    "running.update": _update(r"\mu_B"),
    "running.momentum-default": r"\alpha = 0.1",
    "running.momentum-extremes": r"\alpha = 0: \quad \mu_{\mathrm{run}} \leftarrow \mu_{\mathrm{run}}; \quad "
    r"\alpha = 1: \quad \mu_{\mathrm{run}} \leftarrow \mu_B",
    "running.sample-variance": r"s_B^2 = \frac{1}{m - 1} \sum_{i=1}^{m} (x_i - \mu_B)^2 = \frac{m}{m - 1} \sigma_B^2",
    "running.initial": r"\mu_{\mathrm{run}} = 0, \quad \sigma_{\mathrm{run}}^2 = 1",
    "running.of-the-input": r"\mu_B = \frac{1}{m} \sum_{i=1}^{m} x_i, \quad "
    r"s_B^2 = \frac{1}{m - 1} \sum_{i=1}^{m} (x_i - \mu_B)^2",
    "running.converges": r"\mu_{\mathrm{run}}^{(k)} = (1 - \alpha)^k \mu_{\mathrm{run}}^{(0)} + "
    r"\left( 1 - (1 - \alpha)^k \right) \mu_B",
    "running.single-value": r"m = 1: \quad \frac{1}{m - 1} \sum_{i=1}^{m} (x_i - \mu_B)^2 = \frac{0}{0}",
    "running.cumulative": r"\mu_{\mathrm{run}}^{(k)} = \frac{1}{k} \sum_{j=1}^{k} \mu_{B_j}, \quad "
    r"(\sigma_{\mathrm{run}}^2)^{(k)} = \frac{1}{k} \sum_{j=1}^{k} s_{B_j}^2",
    # -- sections 2 and 3: the layer -----------------------------------------------------------------------------------
    "layer.follows-operation": r"(y, \mu_{\mathrm{new}}, \sigma_{\mathrm{new}}^2) = "
    r"\mathrm{BN}(x; \gamma, \beta, \mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2, \alpha, \varepsilon)",
    # -- section 3: precision ------------------------------------------------------------------------------------------
    "precision.within-bound": r"\lvert y - y_{\mathrm{exact}} \rvert \le \mathrm{bound}(x, u)",
    "precision.cancellation": r"\sigma^2 = \frac{1}{m} \sum_{i=1}^{m} (x_i - \mu)^2 \quad "
    r"\text{where} \quad \lvert \mu \rvert \gg \sigma",
    "precision.half-statistics": rf"{_WIDE} \quad \text{{in}} \quad \sum_{{i=1}}^{{m}} x_i, \quad "
    r"\sum_{i=1}^{m} (x_i - \mu)^2",
    "precision.half-gradients": rf"{_WIDE} \quad \text{{in}} \quad \sum_{{i=1}}^{{m}} \mathrm{{d}}y_i, \quad "
    r"\sum_{i=1}^{m} \mathrm{d}y_i \hat x_i",
    "precision.extent": r"\mu = \frac{1}{m} \sum_{i=1}^{m} x_i, \quad "
    r"\sigma^2 = \frac{1}{m} \sum_{i=1}^{m} (x_i - \mu)^2",
    "precision.large-finite": r"\sum_{i=1}^{m} (x_i - \mu)^2 \lt 2^{128} \quad \Rightarrow \quad "
    r"\lvert y \rvert \lt \infty",
    # -- the article's own experiment ----------------------------------------------------------------------------------
    "example.article": r"x \sim \mathcal{N}(0, 1)^{2 \times 2 \times 2 \times 2}, \quad "
    r"y = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + 10^{-5}}}, \quad m = 8",
    # -- section 4: the relatives --------------------------------------------------------------------------------------
    "relatives.layer-norm": r"\mu_n = \frac{1}{m} \sum_{i=1}^{m} x_{ni}, \quad "
    r"\sigma_n^2 = \frac{1}{m} \sum_{i=1}^{m} (x_{ni} - \mu_n)^2, \quad "
    r"y_{ni} = \gamma_i \frac{x_{ni} - \mu_n}{\sqrt{\sigma_n^2 + \varepsilon}} + \beta_i",
    "relatives.layer-norm-gradients": rf"{_OWN_SHARES}, \quad \mathrm{{d}}\gamma_i = "
    r"\sum_n \mathrm{d}y_{ni} \hat x_{ni}, \quad \mathrm{d}\beta_i = \sum_n \mathrm{d}y_{ni}",
    "relatives.instance-norm": _within_sample("nc", "s", "S"),
    "relatives.instance-norm-gradients": rf"{_OWN_SHARES}, \quad \mathrm{{d}}\gamma_c = "
    r"\sum_{n, s} \mathrm{d}y_{ncs} \hat x_{ncs}, \quad \mathrm{d}\beta_c = \sum_{n, s} \mathrm{d}y_{ncs}",
    "relatives.group-norm": _within_sample("ng", r"c \in g, s", r"\frac{C}{G} S")
    + r", \quad c \in g \Leftrightarrow \left\lfloor \frac{c}{C / G} \right\rfloor = g",
    "relatives.group-norm-gradients": rf"{_OWN_SHARES}, \quad \mathrm{{d}}\gamma_c = "
    r"\sum_{n, s} \mathrm{d}y_{ncs} \hat x_{ncs}, \quad \mathrm{d}\beta_c = \sum_{n, s} \mathrm{d}y_{ncs}",
    "relatives.rms-norm": r"r_n^2 = \frac{1}{m} \sum_{i=1}^{m} x_{ni}^2, \quad "
    r"y_{ni} = \gamma_i \frac{x_{ni}}{\sqrt{r_n^2 + \varepsilon}}",
    "relatives.rms-norm-gradients": _shares(r"g - \hat{x} \cdot \mathrm{mean}(g \hat{x})", r"\sqrt{r^2 + \varepsilon}")
    + r", \quad \mathrm{d}\gamma_i = \sum_n \mathrm{d}y_{ni} \hat x_{ni}",
    "relatives.weight-norm": r"w_k = \frac{g_k}{\rho_k} v_k, \quad \rho_k^2 = \lVert v_k \rVert^2 = \sum_i v_{ki}^2",
    "relatives.weight-norm-gradients": r"\mathrm{d}g = \frac{\mathrm{d}w \cdot v}{\rho}, \quad "
    r"\mathrm{d}v = \frac{g}{\rho} \left( \mathrm{d}w - \mathrm{d}g \frac{v}{\rho} \right), "
    r"\quad \rho = \lVert v \rVert",
    "relatives.half-statistics": rf"{_WIDE} \quad \text{{in}} \quad \sum_{{i=1}}^{{m}} x_i, \quad "
    r"\sum_{i=1}^{m} (x_i - \mu)^2",
    "relatives.identities": r"\hat x_{\mathrm{GN}(G = 1)} = \hat x_{\mathrm{LN}}, \quad "
    r"\hat x_{\mathrm{GN}(G = C)} = \hat x_{\mathrm{IN}}, \quad \hat x_{\mathrm{BN}(N = 1)} = \hat x_{\mathrm{IN}}",
    "relatives.l1-batch-norm": r"d_c = \frac{1}{m} \sum_{n, s} \lvert x_{ncs} - \mu_c \rvert, \quad "
    r"y_{ncs} = \gamma_c \frac{x_{ncs} - \mu_c}{d_c + \varepsilon} + \beta_c",
    "relatives.l1-batch-norm-gradients": r"\mathrm{d}x = \frac{g - \mathrm{mean}(g) - "
    r"m \frac{\partial d}{\partial x} \cdot \mathrm{mean}(g \hat{x})}{d + \varepsilon}, \quad "
    r"\frac{\partial d}{\partial x_i} = \frac{1}{m} \left( \mathrm{sgn}(x_i - \mu) - "
    r"\mathrm{mean}(\mathrm{sgn}(x - \mu)) \right)",
    "relatives.generalized-batch-norm": r"\hat{x} = \frac{x - a(x)}{\sqrt{d(x)^2 + \varepsilon}}, \quad "
    r"y = \gamma \hat{x} + \beta, \quad a = \mu, d = \sigma \Rightarrow \mathrm{BN}",
    "relatives.generalized-batch-norm-gradients": r"\mathrm{d}x = \frac{g - m \frac{\partial a}{\partial x} \cdot "
    r"\mathrm{mean}(g) - m \frac{\partial r}{\partial x} \cdot \mathrm{mean}(g \hat{x})}{r}, \quad "
    r"r = \sqrt{d^2 + \varepsilon}",
    "relatives.instance-norm-tracked": _update(
        r"\frac{1}{N} \sum_n \mu_{nc}", r"\frac{1}{N} \sum_n \frac{1}{S - 1} \sum_s (x_{ncs} - \mu_{nc})^2"
    ),
    "relatives.synchronized-gradients": rf"{_OWN_SHARES}, \quad \mathrm{{mean}}(g) = \frac{{1}}{{m}} "
    r"\sum_k \sum_{i \in B_k} g_i, \quad \mathrm{d}\beta = \sum_k \mathrm{d}\beta_k",
    "relatives.synchronized": r"\mu_c = \frac{1}{m} \sum_{k} \sum_{n \in B_k, s} x_{ncs}, \quad "
    r"\sigma_c^2 = \frac{1}{m} \sum_{k} \sum_{n \in B_k, s} (x_{ncs} - \mu_c)^2, \quad m = \sum_k m_k",
    # -- hygiene -------------------------------------------------------------------------------------------------------
    "hygiene.inputs-unwritten": r"(x, \gamma, \beta, \mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2) \leftarrow "
    r"(x, \gamma, \beta, \mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2)",
    "hygiene.no-alias": r"\mathrm{memory}(\text{results}) \cap \mathrm{memory}(\text{inputs, state}) = "
    r"\emptyset",
    "hygiene.dtype-shape": r"\mathrm{dtype}(y) = \mathrm{dtype}(\mathrm{d}x) = \mathrm{dtype}(x), "
    r"\quad \mathrm{shape}(y) = \mathrm{shape}(\mathrm{d}x) = \mathrm{shape}(x)",
    "hygiene.layouts": r"\mathrm{BN}(x) = \mathrm{BN}(\mathrm{copy}(x))",
    "hygiene.every-shape": rf"\hat{{x}} = \frac{{x - \mu}}{{{_ROOT}}} \text{{ for all }} N, C, S",
    "hygiene.deterministic": r"\mathrm{bits}(y^{(1)}) = \mathrm{bits}(y^{(2)})",
    "hygiene.nan-contained": r"\frac{\partial y_{c}}{\partial x_{k}} = 0 \text{ for all } k \neq c",
    "hygiene.empty-batch": rf"m = 0 \quad \Rightarrow \quad {_STATE} \leftarrow {_STATE}, \quad "
    r"\mathrm{d}\gamma = \mathrm{d}\beta = 0",
    "hygiene.global-state": r"\text{process}^{\mathrm{after}} = \text{process}^{\mathrm{before}}",
    # -- section 5: usage ----------------------------------------------------------------------------------------------
    "usage.mode-switch": r"y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta, \quad "
    rf"(\mu, \sigma^2) = (\mu_B, \sigma_B^2) \text{{ in training}}, \quad {_STATE} \text{{ in evaluation}}",
    "usage.larger-batch": r"\mathbb{E}[\mu_B] = \mu, \quad \mathrm{Var}[\mu_B] = \frac{\sigma^2}{m}, \quad "
    r"\mathbb{E}[s_B^2] = \sigma^2",
    "usage.bias-cancels": r"\mathrm{BN}(W u + b) = \mathrm{BN}(W u), \quad \mathrm{d}b = 0",
    "usage.one-per-channel": r"\gamma, \beta, \mu_{\mathrm{run}}, \sigma_{\mathrm{run}}^2 \in \mathbb{R}^C",
    # -- sections 1 and 6: why it works --------------------------------------------------------------------------------
    "why.scale-invariant": r"\mathrm{BN}((a W) u; a^2 \varepsilon) = \mathrm{BN}(W u; \varepsilon), "
    r"\quad \frac{\partial \mathrm{BN}((a W) u)}{\partial u} = "
    r"\frac{\partial \mathrm{BN}(W u)}{\partial u}, \quad "
    r"\frac{\partial \mathrm{BN}((a W) u)}{\partial (a W)} = "
    r"\frac{1}{a} \frac{\partial \mathrm{BN}(W u)}{\partial W}",
    "why.gradient-projection": r"\lVert \mathrm{d}x \rVert^2 = \frac{\gamma^2}{\sigma^2} \left( "
    r"\lVert \mathrm{d}y \rVert^2 - \frac{1}{m} \langle \mathbf{1}, \mathrm{d}y \rangle^2 - "
    r"\frac{1}{m} \langle \hat{x}, \mathrm{d}y \rangle^2 \right)",
    "why.depth": r"h_{l+1} = f(\mathrm{BN}(W_l h_l)): \quad \mathrm{std}(\mathrm{BN}(W_l h_l)) = 1 "
    r"\text{ for all } l; \quad h_{l+1} = f(W_l h_l): \quad \mathrm{std}(h_l) \propto c^l",
    "why.trains-faster": r"L_{\mathrm{BN}}(\theta_t) \lt L_{\mathrm{plain}}(\theta_t), \quad "
    r"\theta_{t+1} = \theta_t - \eta \nabla L(\theta_t)",
    "why.matches-dataset": r"\mu_{\mathrm{run}} \approx \mathbb{E}[x], \quad "
    r"\sigma_{\mathrm{run}}^2 \approx \mathrm{Var}[x]",
}
"""What each claim states, as a formula."""


# -- rivals -----------------------------------------------------------------------------------------------------------

Choice = tuple[str, object]
"""A field of Rules, and its value."""

_MEANS_OF_SHARES: Mapping[Choice, str] = {
    ("input_gradient", "statistics constant"): _shares("g"),
    ("input_gradient", "no mean term"): _shares(r"g - \hat{x} \cdot \mathrm{mean}(g \hat{x})"),
    ("input_gradient", "no variance term"): _shares(r"g - \mathrm{mean}(g)"),
    ("input_gradient", "mean term added"): _shares(r"g + \mathrm{mean}(g) - \hat{x} \cdot \mathrm{mean}(g \hat{x})"),
    ("input_gradient", "variance term added"): _shares(
        r"g - \mathrm{mean}(g) + \hat{x} \cdot \mathrm{mean}(g \hat{x})"
    ),
    ("input_gradient", "m - 1"): _shares(
        r"g - \mathrm{mean}(g) - \frac{m}{m - 1} \hat{x} \cdot \mathrm{mean}(g \hat{x})"
    ),
    ("input_gradient", "N"): _shares(r"g - \frac{1}{N} \sum_i g_i - \hat{x} \cdot \frac{1}{N} \sum_i g_i \hat x_i"),
    ("input_gradient", "weight lost"): _OWN_SHARES + r", \quad g = \mathrm{d}y",
    ("input_gradient", "eps ignored"): _shares(
        r"g - \mathrm{mean}(g) - \frac{\sigma^2 + \varepsilon}{\sigma^2} \hat{x} \cdot \mathrm{mean}(g \hat{x})"
    ),
}

CHOICES: Mapping[Choice, str] = {
    # Which values share their statistics.
    ("axes", "channel"): r"\mu_c = \frac{1}{N S} \sum_{n, s} x_{ncs}",
    ("axes", "tensor"): r"\mu = \frac{1}{N C S} \sum_{n, c, s} x_{ncs}",
    ("axes", "sample and channel"): r"\mu_{nc} = \frac{1}{S} \sum_s x_{ncs}",
    ("axes", "position"): r"\mu_{cs} = \frac{1}{N} \sum_n x_{ncs}",
    ("axes", "last axis"): r"\mu_w = \frac{1}{N C H} \sum_{n, c, h} x_{nchw}",
    ("axes", "sample"): r"\mu_n = \frac{1}{C S} \sum_{c, s} x_{ncs}",
    ("axes", "over the last axis"): r"\mu_{nch} = \frac{1}{W} \sum_w x_{nchw}",
    ("counted", "all but the last"): r"\mu = \frac{1}{m} \sum_{i=1}^{m-1} x_i",
    ("counted", "all but the first"): r"\mu = \frac{1}{m} \sum_{i=2}^{m} x_i",
    **{
        ("counted", f"whole blocks of {n}"): rf"\mu = \frac{{1}}{{m}} \sum_{{i=1}}^{{{n} \lfloor m / {n} \rfloor}} x_i"
        for n in (4, 8, 16, 32, 64, 256, 1024)
    },
    **{
        ("counted", f"the first {n}"): rf"\mu = \frac{{1}}{{m}} \sum_{{i=1}}^{{\min(m, {n})}} x_i"
        for n in (1024, 4096, 65536)
    },
    ("grouping", "of that size"): r"c \in g \Leftrightarrow \left\lfloor \frac{c}{G} \right\rfloor = g",
    ("grouping", "interleaved"): r"c \in g \Leftrightarrow c \bmod G = g",
    ("training_statistics", "running before"): rf"\hat{{x}} = \frac{{x - \mu_{{\mathrm{{run}}}}}}{{{_ROOT_RUN}}}",
    ("training_statistics", "running after"): r"\hat{x} = \frac{x - \mu_{\mathrm{new}}}"
    r"{\sqrt{\sigma_{\mathrm{new}}^2 + \varepsilon}}, \quad "
    r"\mu_{\mathrm{new}} = (1 - \alpha) \mu_{\mathrm{run}} + \alpha \mu_B",
    # The normalized value.
    ("ddof", 1): r"\sigma^2 = \frac{1}{m - 1} \sum_{i=1}^{m} (x_i - \mu)^2",
    ("eps_rule", "inside"): rf"\hat{{x}} = \frac{{x - \mu}}{{{_ROOT}}}",
    ("eps_rule", "outside"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2} + \varepsilon}",
    ("eps_rule", "absent"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2}}",
    ("eps_rule", "larger of both"): r"\hat{x} = \frac{x - \mu}{\sqrt{\max(\sigma^2, \varepsilon)}}",
    ("eps_rule", "both roots"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2} + \sqrt{\varepsilon}}",
    ("eps_rule", "squared"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon^2}}",
    ("eps_rule", "doubled"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2 + 2 \varepsilon}}",
    ("eps_rule", "always 1e-5"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2 + 10^{-5}}}",
    ("eps_rule", "at least 1e-5"): r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2 + \max(\varepsilon, 10^{-5})}}",
    ("eps_rule", "0 means 1e-5"): r"\varepsilon = 0 \quad \Rightarrow \quad "
    r"\hat{x} = \frac{x - \mu}{\sqrt{\sigma^2 + 10^{-5}}}",
    ("centered", False): rf"\hat{{x}} = \frac{{x}}{{{_ROOT}}}",
    ("centered", True): rf"\hat{{x}} = \frac{{x - \mu}}{{{_ROOT}}}",
    ("scaled", False): r"\hat{x} = x - \mu",
    ("center", "mean"): r"a = \frac{1}{m} \sum_{i=1}^{m} x_i",
    ("center", "zero"): r"a = 0",
    ("center", "median"): r"a = \mathrm{median}(x_1, \ldots, x_m)",
    ("center", "midrange"): r"a = \frac{1}{2} \left( \min_i x_i + \max_i x_i \right)",
    ("deviation", "standard"): r"d = \sqrt{\frac{1}{m} \sum_{i=1}^{m} (x_i - a)^2}",
    ("deviation", "mean absolute"): r"d = \frac{1}{m} \sum_{i=1}^{m} \lvert x_i - a \rvert",
    ("deviation", "mean absolute, as sigma"): r"d = \sqrt{\frac{\pi}{2}} \frac{1}{m} "
    r"\sum_{i=1}^{m} \lvert x_i - a \rvert",
    ("deviation", "half range"): r"d = \frac{1}{2} \left( \max_i x_i - \min_i x_i \right)",
    # What weight and bias do to it.
    ("affine", "no weight"): r"y = \hat{x} + \beta",
    ("affine", "no bias"): r"y = \gamma \hat{x}",
    ("affine", "shift, then scale"): r"y = \gamma (\hat{x} + \beta)",
    ("affine", "swapped"): r"y = \beta \hat{x} + \gamma",
    ("affine", "absolute weight"): r"y = \lvert \gamma \rvert \hat{x} + \beta",
    ("affine", "1 + weight"): r"y = (1 + \gamma) \hat{x} + \beta",
    ("affine", "weight 0 means 1"): r"\gamma = 0 \quad \Rightarrow \quad y = \hat{x} + \beta",
    ("affine", "weight by position"): r"y_{nchw} = \gamma_{w \bmod C} \hat x_{nchw} + \beta_c",
    ("affine", "16 channels"): r"y_{ncs} = \gamma_{c \bmod 16} \hat x_{ncs} + \beta_c",
    # The running statistics.
    ("update", "flipped"): r"\mu_{\mathrm{run}} \leftarrow \alpha \mu_{\mathrm{run}} + (1 - \alpha) \mu_B, \quad "
    r"\sigma_{\mathrm{run}}^2 \leftarrow \alpha \sigma_{\mathrm{run}}^2 + (1 - \alpha) s_B^2",
    ("update", "mean flipped"): r"\mu_{\mathrm{run}} \leftarrow \alpha \mu_{\mathrm{run}} + (1 - \alpha) \mu_B, \quad "
    r"\sigma_{\mathrm{run}}^2 \leftarrow (1 - \alpha) \sigma_{\mathrm{run}}^2 + \alpha s_B^2",
    ("update", "variance flipped"): r"\mu_{\mathrm{run}} \leftarrow (1 - \alpha) \mu_{\mathrm{run}} + \alpha \mu_B, "
    r"\quad \sigma_{\mathrm{run}}^2 \leftarrow \alpha \sigma_{\mathrm{run}}^2 + (1 - \alpha) s_B^2",
    ("update", "always 0.1"): r"\alpha = 0.1 \text{ whatever is asked for}",
    ("update", "cumulative"): r"\alpha_k = \frac{1}{k} \text{ in step } k",
    ("update", "zero-debiased"): r"\alpha_k = \frac{\alpha}{1 - (1 - \alpha)^k} \text{ in step } k",
    ("update", "first batch replaces"): r"\alpha_1 = 1, \quad \alpha_k = \alpha \text{ for } k \gt 1",
    ("update", "mean only"): r"\sigma_{\mathrm{run}}^2 \leftarrow \sigma_{\mathrm{run}}^2",
    ("update", "variance only"): r"\mu_{\mathrm{run}} \leftarrow \mu_{\mathrm{run}}",
    ("update", "twice"): r"\mu_{\mathrm{run}} \leftarrow (1 - \alpha)^2 \mu_{\mathrm{run}} + "
    r"\left( 1 - (1 - \alpha)^2 \right) \mu_B",
    ("update", "one step late"): r"\mu_{\mathrm{run}} \leftarrow (1 - \alpha) \mu_{\mathrm{run}} + "
    r"\alpha \mu_{B_{k-1}} \text{ in step } k",
    ("update", "deviations"): r"\sigma_{\mathrm{run}} \leftarrow (1 - \alpha) \sigma_{\mathrm{run}} + \alpha s_B",
    ("extremes", "0 means 0.1"): r"\alpha = 0 \text{ counts as } 0.1",
    ("extremes", "1 means 0.1"): r"\alpha = 1 \text{ counts as } 0.1",
    ("no_momentum", "means 0.1"): r"\alpha_k = 0.1 \text{ in every step}",
    ("tracked_variance", "m"): r"s_B^2 = \frac{1}{m} \sum_{i=1}^{m} (x_i - \mu_B)^2",
    ("tracked_variance", "N - 1"): r"s_B^2 = \frac{1}{N - 1} \sum_{i=1}^{m} (x_i - \mu_B)^2",
    ("tracked_variance", "N / (N - 1)"): r"s_B^2 = \frac{N}{N - 1} \sigma_B^2",
    ("tracked_variance", "plus eps"): r"s_B^2 = \frac{m}{m - 1} \sigma_B^2 + \varepsilon",
    ("tracked_variance", "mean of samples"): r"s_B^2 = \frac{1}{N} \sum_n \frac{1}{S} \sum_s (x_{ns} - \mu_n)^2",
    ("tracked_variance", "of the batch"): r"s_B^2 = \frac{1}{N S - 1} \sum_{n, s} (x_{ncs} - \mu_c)^2",
    ("tracked_of", "output"): r"\mu_B = \frac{1}{m} \sum_{i=1}^{m} y_i",
    ("initial_var", 0): r"\sigma_{\mathrm{run}}^2 = 0 \text{ at the start}",
    # Evaluation.
    ("evaluation_statistics", "batch"): rf"y = \gamma \frac{{x - \mu_B}}{{{_ROOT_B}}} + \beta",
    ("evaluation_statistics", "batch mean"): rf"y = \gamma \frac{{x - \mu_B}}{{{_ROOT_RUN}}} + \beta",
    (
        "evaluation_statistics",
        "batch variance",
    ): rf"y = \gamma \frac{{x - \mu_{{\mathrm{{run}}}}}}{{{_ROOT_B}}} + \beta",
    ("evaluation_statistics", "batch when alone"): r"N = 1 \quad \Rightarrow \quad "
    rf"y = \gamma \frac{{x - \mu_B}}{{{_ROOT_B}}} + \beta",
    ("folded", "sign lost"): rf"y = \frac{{\gamma}}{{{_ROOT_RUN}}} x + "
    rf"\left( \beta + \frac{{\gamma \mu_{{\mathrm{{run}}}}}}{{{_ROOT_RUN}}} \right)",
    ("folded", "weight lost"): rf"y = \frac{{\gamma}}{{{_ROOT_RUN}}} x + "
    rf"\left( \beta - \frac{{\mu_{{\mathrm{{run}}}}}}{{{_ROOT_RUN}}} \right)",
    ("folded", "eps lost"): r"y = \gamma \frac{x - \mu_{\mathrm{run}}}{\sqrt{\sigma_{\mathrm{run}}^2}} + \beta",
    ("evaluation_state", "updated"): r"\mu_{\mathrm{run}} \leftarrow (1 - \alpha) \mu_{\mathrm{run}} + "
    r"\alpha \mu_B \text{ in evaluation}",
    # Gradients.
    ("weight_gradient", "of raw x"): r"\mathrm{d}\gamma = \sum_i \mathrm{d}y_i x_i",
    ("weight_gradient", "averaged"): r"\mathrm{d}\gamma = \frac{1}{N S} \sum_{n, s} \mathrm{d}y_{ncs} \hat x_{ncs}",
    ("weight_gradient", "times weight"): r"\mathrm{d}\gamma = \gamma \sum_i \mathrm{d}y_i \hat x_i",
    ("weight_gradient", "over the batch only"): r"\mathrm{d}\gamma_c = \frac{1}{S} "
    r"\sum_{n, s} \mathrm{d}y_{ncs} \hat x_{ncs}",
    ("bias_gradient", "averaged"): r"\mathrm{d}\beta = \frac{1}{N S} \sum_{n, s} \mathrm{d}y_{ncs}",
    ("bias_gradient", "times weight"): r"\mathrm{d}\beta = \gamma \sum_i \mathrm{d}y_i",
    ("bias_gradient", "over the batch only"): r"\mathrm{d}\beta_c = \frac{1}{S} \sum_{n, s} \mathrm{d}y_{ncs}",
    # Devices k = 1 ... K, with the parts B_k of the batch, of m_k values each.
    ("split", "each by itself"): r"\hat{x} = \frac{x - \mu_{B_k}}{\sqrt{\sigma_{B_k}^2 + \varepsilon}} "
    r"\text{ on device } k",
    ("split", "states averaged"): r"\mu_{\mathrm{run}} \leftarrow (1 - \alpha) \mu_{\mathrm{run}} + "
    r"\alpha \frac{1}{K} \sum_k \mu_{B_k}, \quad \sigma_{\mathrm{run}}^2 \leftarrow "
    r"(1 - \alpha) \sigma_{\mathrm{run}}^2 + \alpha \frac{1}{K} \sum_k s_{B_k}^2",
    ("split", "divisor of one"): r"s_B^2 = \frac{m_k}{m_k - 1} \sigma_B^2",
    ("split", "variances averaged"): r"\sigma_B^2 = \frac{1}{K} \sum_k \sigma_{B_k}^2",
    ("split", "gradient through one"): r"\mathrm{mean}(g) = \frac{1}{m_k} \sum_{i \in B_k} g_i \text{ on device } k",
    ("split", "gradients averaged"): r"\mathrm{d}\beta = \frac{1}{K} \sum_k \mathrm{d}\beta_k",
    ("earlier_bias", "added after"): r"y = \mathrm{BN}(W u) + b",
    ("earlier_bias", "mean held constant"): rf"\mathrm{{d}}b_c = \sum_{{n, s}} \frac{{\gamma_c}}{{{_ROOT}}} "
    r"\mathrm{d}y_{ncs}",
    **_MEANS_OF_SHARES,
    ("evaluation_gradient", "training formula"): _OWN_SHARES,
    ("evaluation_gradient", "root lost"): r"\mathrm{d}x = \gamma \mathrm{d}y",
    ("evaluation_gradient", "weight lost"): rf"\mathrm{{d}}x = \frac{{\mathrm{{d}}y}}{{{_ROOT_RUN}}}",
}
"""What a rival does, by the choice it makes in batch norm; of several choices, each has its own."""

_OF_ROWS: Mapping[Choice | tuple[Choice, ...], str] = {
    ("axes", "tensor"): r"\mu = \frac{1}{N m} \sum_{n, i} x_{ni}",
    ("axes", "position"): r"\mu_i = \frac{1}{N} \sum_n x_{ni}",
    ("center", "zero"): r"\hat{x} = \frac{x}{\sqrt{\frac{1}{m} \sum_{i=1}^{m} x_i^2 + \varepsilon}}",
    ("weight_gradient", "of raw x"): r"\mathrm{d}\gamma_i = \sum_n \mathrm{d}y_{ni} x_{ni}",
    ("bias_gradient", "times weight"): r"\mathrm{d}\beta_i = \gamma_i \sum_n \mathrm{d}y_{ni}",
    ("weight_gradient", "averaged"): r"\mathrm{d}\gamma_i = \frac{1}{N} \sum_n \mathrm{d}y_{ni} \hat x_{ni}",
    ("bias_gradient", "averaged"): r"\mathrm{d}\beta_i = \frac{1}{N} \sum_n \mathrm{d}y_{ni}",
}
_RMS_ROOT = r"\sqrt{r^2 + \varepsilon}"


def _measured(center: str, root: str, slope: str, share: str) -> Mapping[Choice | tuple[Choice, ...], str]:
    """Batch norm around `center` over `root`, whose derivative by x is slope / m; share is that of the center."""
    mean, variance = rf"{share} \mathrm{{mean}}(g)", rf"{slope} \cdot \mathrm{{mean}}(g \hat{{x}})"
    return {
        ("eps_rule", "inside"): rf"\hat{{x}} = \frac{{x - {center}}}{{\sqrt{{d^2 + \varepsilon}}}}",
        ("eps_rule", "outside"): rf"\hat{{x}} = \frac{{x - {center}}}{{d + \varepsilon}}",
        ("eps_rule", "absent"): rf"\hat{{x}} = \frac{{x - {center}}}{{d}}",
        ("eps_rule", "larger of both"): rf"\hat{{x}} = \frac{{x - {center}}}{{\sqrt{{\max(d^2, \varepsilon)}}}}",
        ("centered", False): rf"\hat{{x}} = \frac{{x}}{{{root}}}",
        ("input_gradient", "statistics constant"): _shares("g", root),
        ("input_gradient", "no mean term"): _shares(f"g - {variance}", root),
        ("input_gradient", "no variance term"): _shares(f"g - {mean}", root),
        ("input_gradient", "variance term added"): _shares(f"g - {mean} + {variance}", root),
        ("input_gradient", "weight lost"): _shares(f"g - {mean} - {variance}", root) + r", \quad g = \mathrm{d}y",
    }


RELATIVES: Mapping[str, Mapping[Choice | tuple[Choice, ...], str]] = {
    "layer norm": _OF_ROWS,
    "group norm": {
        ("axes", "channel"): r"\mu_g = \frac{1}{N \frac{C}{G} S} \sum_{n, c \in g, s} x_{ncs}",
    },
    "rms norm": {
        **_OF_ROWS,
        ("axes", "tensor"): r"r^2 = \frac{1}{N m} \sum_{n, i} x_{ni}^2",
        ("axes", "over the last axis"): r"r_{nch}^2 = \frac{1}{W} \sum_w x_{nchw}^2",
        ("center", "mean"): rf"\hat{{x}} = \frac{{x - \mu}}{{{_ROOT}}}",
        (("center", "mean"), ("centered", False)): rf"\hat{{x}} = \frac{{x}}{{{_ROOT}}}",
        ("ddof", 1): r"r^2 = \frac{1}{m - 1} \sum_{i=1}^{m} x_i^2",
        ("eps_rule", "outside"): r"\hat{x} = \frac{x}{\sqrt{r^2} + \varepsilon}",
        ("eps_rule", "absent"): r"\hat{x} = \frac{x}{\sqrt{r^2}}",
        ("eps_rule", "larger of both"): r"\hat{x} = \frac{x}{\sqrt{\max(r^2, \varepsilon)}}",
        ("affine", "no weight"): r"y = \hat{x}",
        ("affine", "1 + weight"): r"y = (1 + \gamma) \hat{x}",
        ("input_gradient", "statistics constant"): _shares("g", _RMS_ROOT),
        ("input_gradient", "variance term added"): _shares(r"g + \hat{x} \cdot \mathrm{mean}(g \hat{x})", _RMS_ROOT),
        ("input_gradient", "weight lost"): _shares(r"g - \hat{x} \cdot \mathrm{mean}(g \hat{x})", _RMS_ROOT)
        + r", \quad g = \mathrm{d}y",
    },
    "weight norm": {
        ("axes", "sample"): r"\rho^2 = \sum_{k, i} v_{ki}^2",
        ("center", "mean"): r"w = \frac{g}{\rho} (v - \mathrm{mean}(v)), \quad "
        r"\rho^2 = \sum_i (v_i - \mathrm{mean}(v))^2",
        (("center", "mean"), ("centered", False)): r"\rho^2 = \sum_i (v_i - \mathrm{mean}(v))^2",
        ("affine", "no weight"): r"w = \frac{v}{\rho}",
        ("affine", "1 + weight"): r"w = \frac{1 + g}{\rho} v",
        ("affine", "absolute weight"): r"w = \frac{\lvert g \rvert}{\rho} v",
        ("input_gradient", "statistics constant"): r"\mathrm{d}v = \frac{g}{\rho} \mathrm{d}w",
        ("input_gradient", "variance term added"): r"\mathrm{d}v = \frac{g}{\rho} "
        r"\left( \mathrm{d}w + \mathrm{d}g \frac{v}{\rho} \right)",
        ("weight_gradient", "averaged"): r"\mathrm{d}g = \frac{1}{m} \frac{\mathrm{d}w \cdot v}{\rho}",
    },
    "instance norm": {
        ("tracked_variance", "m"): r"s^2 = \frac{1}{N} \sum_n \frac{1}{S} \sum_s (x_{ncs} - \mu_{nc})^2",
        ("evaluation_statistics", "batch"): r"\hat x_{ncs} = \frac{x_{ncs} - \mu_{nc}}"
        r"{\sqrt{\sigma_{nc}^2 + \varepsilon}} \text{ in evaluation}",
    },
    "l1 batch norm": {
        **_measured(r"\mu", r"d + \varepsilon", r"m \frac{\partial d}{\partial x}", ""),
        ("center", "median"): r"\hat{x} = \frac{x - \mathrm{median}(x)}{d + \varepsilon}, \quad "
        r"d = \frac{1}{m} \sum_{i=1}^{m} \lvert x_i - \mathrm{median}(x) \rvert",
        ("deviation", "standard"): r"d = \sqrt{\frac{1}{m} \sum_{i=1}^{m} (x_i - \mu)^2}",
        ("deviation", "mean absolute, as sigma"): r"d = \sqrt{\frac{\pi}{2}} \frac{1}{m} "
        r"\sum_{i=1}^{m} \lvert x_i - \mu \rvert",
    },
    "generalized batch norm": _measured(
        "a", "r", r"m \frac{\partial r}{\partial x}", r"m \frac{\partial a}{\partial x} \cdot"
    ),
}
"""The same where a choice, or all choices of a rival together, read differently in a relative, by operation."""

MISTAKES: Mapping[str, str] = {
    "weight not 1": "A new layer's weight holds something else than 1.",
    "bias not 0": "A new layer's bias holds something else than 0.",
    "variance not 1": "A new layer's running variance holds something else than 1.",
    "mean not 0": "A new layer's running mean holds something else than 0.",
    "NaN or inf in the state": "Training on one value a channel divides by m - 1 = 0, and the state keeps the result.",
    "NaN or inf in the gradients": "The backward pass divides by m - 1 = 0.",
    "narrow sums": "Sums are kept in fewer bits than the data have.",
    "one pass": "The variance is E[x²] - E[x]², which loses all digits where the mean is large.",
    "NaN from a negative variance": "Rounding makes a one-pass variance negative, and its root is NaN.",
    "half steps": "Sums are wide, but what comes of them is rounded to half precision on the way.",
    "narrow": "Sums are added up in half precision, where small terms vanish beside a large total.",
    "squares overflow early": "Deviations are squared in x's own half precision, which overflows long before float32.",
    "one group is not layer norm": "Group norm of a single group and layer norm give different x-hat.",
    "a group a channel is not instance norm": "Group norm of a channel a group and instance norm give different x-hat.",
    "a sample alone is not instance norm": "Batch norm of one sample and instance norm give different x-hat.",
    "evaluation gives training's result": "In evaluation y is what training gives for the same x.",
    "stays in evaluation": "After an evaluation, training gives what evaluation gives.",
    "evaluation changes a parameter": "weight or bias holds other values after an evaluation.",
    "training changes a parameter": "weight or bias holds other values after a training step without an optimizer.",
    "evaluation changes the state": "The running statistics hold other values after an evaluation.",
    "evaluation shows in later training": "A layer that was evaluated goes on in another way than one that was not.",
    "one for all channels": "One number stands for what should be one a channel.",
    "one a position": "There is a value for every channel and position.",
    "with axes beside the channels": "The arrays have more axes than one.",
    "the plain network is as good": "Without batch norm the network is not worse by more than chance.",
    "tracked statistics are not the data set's": "They are not the average of the batches' statistics.",
    "evaluation is worse than training mode": "With the tracked statistics fewer images are recognized.",
    "the spread drifts": "What a layer gives has another spread than its own input and eps leave it.",
    "layers share their state": "A layer holds the running statistics of another one.",
    "writes its input": "x or dy holds other values after the call.",
    "writes its parameters": "weight or bias holds other values after the call.",
    "writes the state it was given": "The running statistics that were handed over hold other values after the call.",
    "result shares memory with an input": "Writing to a result changes an argument, or the other way round.",
    "an earlier result changes": "A later call writes into a result that was already returned.",
    "y of another dtype": "y or dx comes back wider or narrower than x.",
    "state of another dtype": "The new running statistics are wider or narrower than the old.",
    "gradient of another dtype": "dweight or dbias is wider or narrower than its parameter.",
    "a layout is misread": "Strides are ignored, and values are taken from the wrong places.",
    "wrong in some shapes": "The formula holds in some shapes and not in others, as at the end of a block.",
    "differs from run to run": "Two calls with the same arguments give different bits.",
    "spreads to other channels": "A NaN or inf in one channel shows in another.",
    "is hidden": "A NaN or inf in a channel leaves finite results there.",
    "the state moves": "An empty batch counts as a batch, and the running statistics change.",
    "gradients of nothing are not 0": "dweight or dbias of an empty batch is NaN, or anything but 0.",
    "changes NumPy's error state": "Overflow or division by zero is handled in another way after the call.",
    "changes the warning filters": "Warnings are shown, hidden or raised in another way after the call.",
    "changes the random state": "Random numbers drawn after the call are others than without it.",
    "changes the environment": "An environment variable is set, changed or gone after the call.",
    "changes the working directory": "Relative paths lead elsewhere after the call.",
    "replaces functions of NumPy": "A function of NumPy is another one after the call.",
}
"""Rivals that no formula describes, by name, in a sentence."""


def of_rival(claim: Claim, rival: Rival) -> str:
    """What a rival computes instead; "" for a mistake, and where some choice has no formula."""
    own = RELATIVES.get(claim.operation, {})
    if rival.change in own:
        return own[rival.change]
    found = [own.get(choice) or CHOICES.get(choice) or "" for choice in rival.change]
    return r", \quad ".join(found) if all(found) else ""
