"""Kinds of bugs that were met in the wild, each with public threads. Some are on other norms, of the same kernel."""

WILD = {
    "running variance with the wrong divisor": (
        "ml-explore/mlx#3817", "pytorch/pytorch#1410", "pytorch/pytorch#19902", "pytorch/pytorch#62399",
        "pytorch/pytorch#106366", "keras-team/keras#10443", "tenstorrent/tt-metal#55438", "tinygrad/tinygrad#807",
        "uxlfoundation/oneDNN#517", "mlpack/mlpack#2474", "pytorch/pytorch#22192", "keras-team/keras-contrib#287",
    ),
    "two code paths, two estimators": (
        "tensorflow/tensorflow#55545", "tensorflow/tensorflow#40338", "NervanaSystems/ngraph#893",
    ),
    "momentum with the other meaning": (
        "keras-team/keras#6839", "ludwig-ai/ludwig#2100", "Oneflow-Inc/oneflow#6055", "d2l-ai/d2l-en#2213",
        "PaddlePaddle/Paddle#51120", "pytorch/pytorch#15298",
    ),
    "momentum lost on the way": ("pytorch/pytorch#18525",),
    "eps outside the root": (
        "Tencent/ncnn#311", "keras-team/keras#10427", "tracel-ai/burn#2185", "tile-ai/tilelang#1243",
    ),
    "eps in the wrong place, twice, or missing": (
        "xlite-dev/LeetCUDA#309", "chainer/chainer#2214", "chainer/chainer#4505", "deeplearning4j/deeplearning4j#8241",
        "VeriSilicon/TIM-VX#589", "pytorch/vision#1947",
    ),
    "eps ignored or fixed": (
        "tensorflow/tensorflow#58863", "PaddlePaddle/Paddle#5548", "pytorch/pytorch#25282",
        "microsoft/onnxscript#2312", "qualcomm/aimet#1957",
    ),
    "eps raised to a minimum": ("tensorflow/tensorflow#8090", "tensorflow/tensorflow#37768"),
    "eps below the dtype's resolution": (
        "tensorflow/tensorflow#24979", "deepspeedai/DeepSpeed#581", "pytorch/pytorch#41527",
    ),
    "another default eps": (
        "ml-explore/mlx-examples#1434", "NervanaSystems/ngraph-onnx#142", "qqwweee/keras-yolo3#451",
    ),
    "square for square root": ("jax-ml/jax#442", "131250208/TPlinker-joint-extraction#37"),
    "one-pass variance cancels": (
        "tracel-ai/burn#5607", "tenstorrent/tt-metal#45968", "k2-fsa/sherpa-onnx#3857", "google/objax#182",
        "google/flax#1491", "tensorflow/tensorflow#3290",
    ),
    "variance overflows": (
        "microsoft/onnxruntime#29034", "microsoft/onnxruntime#17692", "pytorch/pytorch#178123",
        "pytorch/pytorch#126525", "ml-explore/mlx#4228",
    ),
    "statistics, parameters or sums in half precision": (
        "apple/coreai-torch#54", "pytorch/TensorRT#1450", "pytorch/pytorch#195701", "pytorch/pytorch#70901",
        "apache/mxnet#9916",
    ),
    "half precision never computed": ("opencv/opencv#29836",),
    "long or large input loses precision": ("pytorch/pytorch#81090",),
    "constant channel is not zero": ("pytorch/pytorch#108072", "pytorch/pytorch#5410"),
    "one value a channel": (
        "pytorch/pytorch#1381", "pytorch/pytorch#2961", "torch/nn#1271", "tensorflow/tensorflow#34062",
        "FluxML/Flux.jl#2716", "PaddlePaddle/Paddle#11445",
    ),
    "empty batch moves the state": ("google-deepmind/sonnet#125", "pytorch/pytorch#12013"),
    "remainder of a block": ("tile-ai/tilelang-ascend#890",),
    "count in half precision": ("tensorflow/tensorflow#30230",),
    "approximate reciprocal root": ("tile-ai/tilelang-ascend#1225",),
    "strides of dy misread": ("deeplearning4j/deeplearning4j#8860",),
    "channels last misread in the forward pass": ("pytorch/pytorch#62594", "pytorch/pytorch#134618"),
    "channels last misread in the backward pass": (
        "pytorch/pytorch#175189", "pytorch/pytorch#181411", "pytorch/pytorch#169372",
    ),
    "offset into memory forgotten": ("pytorch/pytorch#174345",),
    "a layout crashes": ("pytorch/pytorch#190645", "pytorch/pytorch#188371", "braindecode/braindecode#1086"),
    "strided state": ("intel/torch-xpu-ops#2887",),
    "state updated before parameters are read": ("microsoft/onnxruntime#29790", "tenstorrent/tt-metal#45578"),
    "arguments written": ("pytorch/pytorch#46808", "PaddlePaddle/Paddle#21065", "hasktorch/hasktorch#626"),
    "state never updated": ("paiml/aprender#2166", "ml-explore/mlx#1960", "apache/mxnet#18673"),
    "state lost in evaluation": ("LaurentMazare/tch-rs#628",),
    "races": ("tile-ai/TileOPs#1727",),
    "a size fixed by the first call": ("flagos-ai/FlagGems#4099",),
    "grid or index limits": ("torch/cunn#298", "tensorflow/tensorflow#9870"),
    "unequal shares merged": ("PaddlePaddle/Paddle#32464", "NVIDIA/apex#387", "pytorch/pytorch#36382"),
    "later tiles read from the wrong place": ("tenstorrent/tt-metal#56955",),
    "gradients of evaluation": (
        "pytorch/pytorch#586", "pytorch/xla#913", "apache/mxnet#9580", "soumith/cudnn.torch#244", "torch/nn#768",
    ),
    "gradients by way of the output": ("mapillary/inplace_abn#155",),
    "weight taken for 1": ("apache/mxnet#9624", "apache/mxnet#3037", "apache/mxnet#1061"),
    "negative weight": ("LeelaChessZero/lc0#779",),
    "weight without bias": ("web-platform-tests/wpt#43891", "microsoft/DirectML#369"),
    "NaN dropped behind": ("FluxML/Flux.jl#2071",),
    "dtype of the state": ("tinygrad/tinygrad#7025", "Oneflow-Inc/oneflow#9388"),
}  # fmt: skip
"""Threads by kind, as owner/repository#number."""
