"""The adapters that come with normspec: where each is, and what it needs. Nothing is imported here."""

from typing import NamedTuple


class Shipped(NamedTuple):
    """An adapter of ours."""

    place: str
    """The module and the object in it, as `module:Name`."""
    needs: tuple[str, ...] = ()
    """The modules that must be there to be imported."""
    on_request: bool = False
    """Whether it runs only if it is named: a second path through a framework that is slow to check."""


SHIPPED = {
    "numpy": Shipped("normspec.backends.numpy:NumPy"),
    "torch": Shipped("normspec.backends.torch:Torch", ("torch",)),
    "torch-cuda": Shipped("normspec.backends.torch:TorchCuda", ("torch",)),
    "torch-channels-last": Shipped("normspec.backends.torch_paths:ChannelsLast", ("torch",)),
    "torch-fused": Shipped("normspec.backends.torch_paths:Fused", ("torch",)),
    "torch-export": Shipped("normspec.backends.torch_paths:Exported", ("torch",), on_request=True),
    "torch-compile": Shipped("normspec.backends.torch_paths:Compiled", ("torch",), on_request=True),
    "jax": Shipped("normspec.backends.jax:Jax", ("jax",)),
    "jax-jit": Shipped("normspec.backends.jax:JaxJit", ("jax",)),
    "keras-torch": Shipped("normspec.backends.keras:KerasTorch", ("keras", "torch")),
    "keras-jax": Shipped("normspec.backends.keras:KerasJax", ("keras", "jax")),
    "keras-tensorflow": Shipped("normspec.backends.keras:KerasTensorFlow", ("keras", "tensorflow")),
    "keras-numpy": Shipped("normspec.backends.keras:KerasNumPy", ("keras",)),
    "tf-keras": Shipped("normspec.backends.tf_keras:TfKeras", ("tf_keras",)),
    "tf-keras-unfused": Shipped("normspec.backends.tf_keras:TfKerasUnfused", ("tf_keras",)),
    "tensorflow-fused": Shipped("normspec.backends.tensorflow:Fused", ("tensorflow",)),
    "paddle": Shipped("normspec.backends.paddle:Paddle", ("paddle",)),
    "tinygrad": Shipped("normspec.backends.tinygrad:Tinygrad", ("tinygrad",)),
    "mlx": Shipped("normspec.backends.mlx:Mlx", ("mlx",)),
    "flax-linen": Shipped("normspec.backends.flax:FlaxLinen", ("flax",)),
    "flax-nnx": Shipped("normspec.backends.flax:FlaxNnx", ("flax",)),
    "flax-linen-two-passes": Shipped("normspec.backends.flax:FlaxLinenTwoPasses", ("flax",), on_request=True),
    "equinox-batch": Shipped("normspec.backends.equinox:EquinoxBatch", ("equinox",)),
    "equinox-ema": Shipped("normspec.backends.equinox:EquinoxEma", ("equinox",)),
    "haiku": Shipped("normspec.backends.haiku:Haiku", ("haiku",)),
    "stablehlo": Shipped("normspec.backends.stablehlo:StableHlo", ("jax", "jaxlib"), on_request=True),
    "onnxruntime": Shipped("normspec.backends.onnxruntime:OnnxRuntime", ("onnx", "onnxruntime")),
    "onnxruntime-y-alone": Shipped("normspec.backends.onnxruntime:OnnxRuntimeYAlone", ("onnx", "onnxruntime")),
    "onnxruntime-folded": Shipped("normspec.backends.onnxruntime:OnnxRuntimeFolded", ("onnx", "onnxruntime")),
    "onnx-reference": Shipped("normspec.backends.onnx:OnnxReference", ("onnx",)),
    "openvino": Shipped("normspec.backends.openvino:OpenVino", ("onnx", "openvino")),
    "openvino-folded": Shipped("normspec.backends.openvino:OpenVinoFolded", ("onnx", "openvino"), on_request=True),
    "tvm": Shipped("normspec.backends.tvm:Tvm", ("tvm",), on_request=True),
    "tvm-decomposed": Shipped("normspec.backends.tvm:TvmDecomposed", ("tvm",), on_request=True),
    "iree": Shipped("normspec.backends.iree:Iree", ("iree",), on_request=True),
    "opencv": Shipped("normspec.backends.opencv:OpenCv", ("cv2", "onnx")),
    "tract": Shipped("normspec.backends.tract:Tract", ("onnx", "tract")),
    "ncnn": Shipped("normspec.backends.ncnn:Ncnn", ("ncnn",)),
}
