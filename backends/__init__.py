"""The adapters that come with normspec: for each name, the module and the object in it. Nothing is imported here."""

SHIPPED = {
    "numpy": "normspec.backends.numpy:NumPy",
    "torch": "normspec.backends.torch:Torch",
    "torch-cuda": "normspec.backends.torch:TorchCuda",
    "jax": "normspec.backends.jax:Jax",
    "jax-jit": "normspec.backends.jax:JaxJit",
}
