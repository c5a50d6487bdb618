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
    "jax": Shipped("normspec.backends.jax:Jax", ("jax",)),
    "jax-jit": Shipped("normspec.backends.jax:JaxJit", ("jax",)),
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
