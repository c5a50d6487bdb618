"""The claims in Chinese, for readers who work in it: what each states, by its id."""

from collections.abc import Mapping

CHINESE: Mapping[str, str] = {
    # -- section 2: normalization in training --------------------------------------------------------------------------
    "statistics.per-channel": "均值和方差都是向量，每个通道一个分量，在整个批次和所有空间位置上统计。",
    "normalize.uses-batch-statistics": "训练时，x 用它所在批次自身的统计量来归一化。",
    "normalize.population-variance": "用来归一化的方差除以 m，即总体方差。",
    "normalize.eps-inside-root": "eps 按传入的值原样加到方差上，位于根号之内。",
    "normalize.eps-default": "构建层时不指定 eps，则使用 1e-5。",
    "normalize.centered": "归一化之后，每个通道的 x̂ 在整个批次上的均值为 0。",
    "normalize.unit-spread": "每个通道的 x̂ 的方差（除以 m）等于 var / (var + eps)，若不计 eps 就是 1。",
    "normalize.constant-channel": "取值恒定、方差为 0 的通道，输出等于 bias 且为有限值：有了 eps，分母不会是 0。",
    "normalize.batch-coupling": "训练时，一个样本的输出还取决于同一批次里的其他样本。",
    "affine.scale-then-shift": "y = weight * x̂ + bias，先缩放再平移；每个通道各有一个 weight 和一个 bias。",
    "affine.defaults": "新建的层 weight 为 1，bias 为 0。",
    "affine.can-undo": "取 weight = sqrt(var + eps)、bias = mean 时，这一层原样返回它的输入。",
    # -- section 2: evaluation -----------------------------------------------------------------------------------------
    "evaluate.folded": "评估时，整个运算等价于对 x 做一次仿射变换，斜率和截距只由参数和移动统计量决定。",
    "evaluate.running-statistics": "评估时，用训练中累积下来的移动统计量做归一化。",
    "evaluate.sample-alone": "评估时，一个样本无论单独输入、放进任何批次、排在任何位置，还是与自己的副本同批，"
    "结果都相同。",
    "evaluate.frozen": "评估不改动任何状态，运行多少次都是如此。",
    "evaluate.before-training": "未经训练的层在评估时给出 x / sqrt(1 + eps)：它的移动均值从 0 起步，"
    "移动方差从 1 起步。",
    # -- section 2: gradients ------------------------------------------------------------------------------------------
    "gradient.input": "dx 是完整的导数：梯度不仅直接传给 x，还要流经均值和方差。",
    "gradient.evaluation": "评估时统计量是常数，因此 dx = weight * dy / sqrt(running_var + eps)。",
    "gradient.weight": "dweight 等于 dy * x̂ 在通道以外所有维度上的和，而不是平均值。",
    "gradient.bias": "dbias 等于 dy 在通道以外所有维度上的和，而不是平均值。",
    # -- section 3: running statistics ---------------------------------------------------------------------------------
    "running.update": "移动统计量按指数移动平均更新：旧值占 1 - momentum，当前批次占 momentum；均值和方差的规则相同。",
    "running.momentum-default": "构建层时不指定 momentum，则新值所占的权重为 0.1。",
    "running.momentum-extremes": "momentum 为 0 时状态保持不变，为 1 时直接取当前批次的值；"
    "二者都不能被当成“未指定”而换成默认值。",
    "running.sample-variance": "记入移动方差的是除以 m - 1 的样本方差。",
    "running.initial": "移动均值的初值为 0，移动方差的初值为 1。",
    "running.of-the-input": "累积的是输入 x 的统计量，与 weight 和 bias 的取值无关。",
    "running.converges": "同一批次出现 k 次之后，初值只剩下 (1 - momentum)^k 的权重：移动统计量趋向数据本身的统计量。",
    "running.single-value": "每个通道只有一个值时，样本方差没有定义：训练要么拒绝这样的输入，要么结果保持有限；"
    "状态中绝不能出现 NaN 或 inf。",
    "running.cumulative": "momentum 为 None 时各批次权重相等：经过 k 个批次，状态就是它们的算术平均。",
    # -- sections 2 and 3: the layer -----------------------------------------------------------------------------------
    "layer.follows-operation": "层的行为与它所封装的运算一致：采用构建时给定的 eps 和 momentum，并从自己的状态出发。",
    # -- section 3: precision ------------------------------------------------------------------------------------------
    "precision.within-bound": "按公式自行计算的结果与框架的结果只差舍入误差：每个数都落在推导得出的误差界之内。",
    "precision.cancellation": "即使均值远大于离散程度，方差也不损失精度，与两遍扫描数据的算法相当。",
    "precision.half-statistics": "半精度数据的统计量，用 float32 或更宽的类型累加和保存。",
    "precision.half-gradients": "半精度数据的梯度，用 float32 或更宽的类型累加。",
    "precision.extent": "再长的求和也要算上每一个值，包括末尾凑不满一整块的部分。",
    "precision.large-finite": "只要平方没有超出 float32 的范围，有限的输入若其结果可以表示，"
    "就必须得到有限而且正确的结果。",
    # -- the article's own experiment ----------------------------------------------------------------------------------
    "example.article": "重做文章里的实验：把一批形状为 (2, 2, 2, 2) 的标准正态数据送入新建的层，再与公式的结果对照。",
    # -- section 4: the relatives --------------------------------------------------------------------------------------
    "relatives.layer-norm": "层归一化（LN）对每个样本单独求均值和方差（除以 m），"
    "统计范围是 weight 和 bias 所覆盖的全部维度。",
    "relatives.layer-norm-gradients": "dx 流经该样本自己的均值和方差；dweight 和 dbias 对所有样本求和。",
    "relatives.instance-norm": "实例归一化（IN）对每个样本的每个通道单独求均值和方差（除以 m），只在空间维度上统计。",
    "relatives.instance-norm-gradients": "dx 流经每个样本、每个通道各自的统计量；"
    "dweight 和 dbias 对样本和空间位置求和。",
    "relatives.group-norm": "组归一化（GN）把相邻的 C / G 个通道编成一组，对每个样本的每一组，"
    "在组内的通道和空间位置上求均值和方差（除以 m）。",
    "relatives.group-norm-gradients": "dx 流经每一组的统计量；dweight 和 dbias 仍是每个通道一个，"
    "对样本和空间位置求和。",
    "relatives.rms-norm": "RMS 归一化把 x 除以它的均方根，统计范围是 weight 所覆盖的全部维度；不减去均值。",
    "relatives.rms-norm-gradients": "dx 流经该样本的均方值；dweight 等于 dy * x̂ 对所有样本的和。",
    "relatives.weight-norm": "权重归一化（WN）作用于权重：w = g v / |v|；v 的第一维是各个单元，"
    "每个单元有一个 g 和一个欧氏范数。",
    "relatives.weight-norm-gradients": "dg = dw · v / |v|，dv = g / |v| (dw - dg v / |v|)：dv 与 v 正交。",
    "relatives.half-statistics": "这些变体处理半精度数据时，统计量同样用 float32 或更宽的类型累加和保存。",
    "relatives.identities": "只分一组时，x̂ 与层归一化相同；每个通道各成一组时，与实例归一化相同；"
    "只含一个样本的批归一化，也与实例归一化相同。",
    "relatives.l1-batch-norm": "L1 批归一化除以平均绝对偏差与 eps 之和：(x - mean) / (mean|x - mean| + eps)，"
    "与批归一化一样按通道统计。",
    "relatives.l1-batch-norm-gradients": "dx 流经均值和平均绝对偏差；后者的导数是 x - mean 的符号减去符号的平均值，"
    "再除以 m。",
    "relatives.generalized-batch-norm": "广义批归一化减去选定的统计量 S，再除以 sqrt(D^2 + eps)，"
    "其中 D 是相对 S 的选定偏差度量（均值与标准差、均值与平均绝对偏差、中位数与平均绝对偏差、极值中点与半极差）；"
    "选均值和标准差，就回到批归一化。",
    "relatives.generalized-batch-norm-gradients": "梯度流经所选定的那个中心统计量和偏差度量。",
    "relatives.instance-norm-tracked": "带移动统计量的实例归一化，"
    "累积的是各样本均值的平均和各样本方差（除以 n - 1）的平均；评估时使用它们。",
    "relatives.synchronized": "一个批次拆到多个设备上时，用整个批次的统计量归一化；m 是所有设备上的总数。",
    "relatives.synchronized-gradients": "dx 流经所有设备上整个批次的统计量；dweight 和 dbias 要对所有设备求和。",
    # -- hygiene -------------------------------------------------------------------------------------------------------
    "hygiene.inputs-unwritten": "传入的数组一概不得改写：文章自己的函数要靠调用者先复制一份，而一个库不能这样要求。",
    "hygiene.no-alias": "返回值不与输入或状态共用内存，以后的调用也不会改动先前的结果。",
    "hygiene.dtype-shape": "y 和 dx 的数据类型与 x 相同；状态和参数的梯度保持各自原有的类型。",
    "hygiene.layouts": "数组在内存中的排列方式不影响结果：带步长的、转置的、通道在最后的、以零步长重复的，都一样。",
    "hygiene.every-shape": "维数、批次大小、通道数和长度都不改变任何东西：公式对所有尺寸都成立，"
    "真实网络中的层也不例外。",
    "hygiene.deterministic": "相同的输入给出逐位相同的输出。",
    "hygiene.nan-contained": "NaN 或 inf 只影响它所在的通道，并且会在那里显现出来。",
    "hygiene.empty-batch": "空批次要么被拒绝，要么得到空的结果，并且状态保持原样。",
    "hygiene.global-state": "一次调用之后，NumPy 的错误处理设置和函数、随机数状态、环境变量和工作目录都与之前相同。",
    # -- section 5: usage ----------------------------------------------------------------------------------------------
    "usage.mode-switch": "层自带的训练/评估开关只改变使用哪一套统计量，此外什么都不变。",
    "usage.larger-batch": "对来自同一总体的所有批次而言，记录的均值是无偏的，其方差为总体方差 / m；"
    "记录的方差（除以 m - 1）也是无偏的。",
    "usage.bias-cancels": "批归一化之前的偏置没有作用：BN(Wu + b) = BN(Wu)，其他梯度都不变，而它自己的梯度为 0。",
    "usage.one-per-channel": "无论 x 有几个维度，"
    "一层里每个通道都只有一个 weight、一个 bias、一个移动均值和一个移动方差。",
    # -- sections 1 and 6: why it works --------------------------------------------------------------------------------
    "why.scale-invariant": "把 eps 乘以 a^2，则 BN((aW)u) = BN(Wu)；对 u 的梯度不变，"
    "对 aW 的梯度等于对 W 的梯度除以 a。",
    "why.gradient-projection": "eps = 0 时，dx 等于 weight / sigma 乘以 dy 去掉沿 1 和 x̂ 两个方向的分量后的结果，"
    "因此 |dx|^2 = weight^2 / sigma^2 (|dy|^2 - <1, dy>^2 / m - <x̂, dy>^2 / m)。",
    "why.depth": "有批归一化时，经过几十层，激活值的离散程度仍保持在 1；没有它，则不是爆炸就是消失。",
    "why.trains-faster": "在普通网络停滞不前的学习率下，"
    "加了批归一化的网络却能训练起来（scikit-learn 的手写数字数据集）。",
    "why.matches-dataset": "训练结束后，移动统计量就是整个训练集的统计量，误差不超过以批次平均来估计所固有的程度；"
    "评估模式的准确率与训练模式相当。",
}
"""What each claim states."""
