"""Shapes at which kernels change their path: edges of vectors, tiles and blocks, and the layers of real networks.

Random small shapes never reach them. They stand in the order of their use: a profile takes the first so many edges, and
every layer whose input it has room for.
"""

EDGES = (
    (2, 65, 3), (33, 5, 2, 2, 2), (1, 17, 1, 9), (3, 3, 3, 3), (2, 1025), (5, 3, 1, 1), (1025, 3), (4, 4), (2, 2, 2, 2),
    (1, 2, 1025), (2049, 2), (1, 1, 2), (2, 5, 5), (7, 1), (2, 33, 7, 7), (129, 2, 2), (2, 257, 1, 2), (16, 16, 16),
    (8, 8), (2, 9, 5, 3), (65, 31), (3, 4097), (9, 15, 17), (4097, 2), (2, 513, 3), (257, 3, 2), (1, 3, 31, 33),
    (2, 3, 2, 3, 4), (64, 64), (2, 128, 5), (2, 3, 4095), (31, 63), (7, 127, 3), (17, 2, 5, 7), (1, 5, 2, 2, 2),
    (2, 255), (2, 32, 4, 4), (32, 32), (2, 2049), (513, 3), (1, 64, 63), (1, 129, 64), (2, 1023, 2), (511, 2, 3),
    (2, 8193), (8193, 2), (1, 2, 16385), (3, 16, 8, 8, 8),
)  # fmt: skip
"""One or a few sizes in each go over, under or onto a power of two; squares and single samples are among them."""

LAYERS = (
    # transformers, as (N, width, length)
    (2, 768, 16), (4, 1024, 77), (8, 768, 128),
    # ResNet-50: the inputs of its batch norms, deepest first
    (1, 512, 7, 7), (1, 2048, 7, 7), (1, 1024, 14, 14), (1, 64, 56, 56), (1, 256, 56, 56), (2, 64, 112, 112),
    (16, 2048, 7, 7),
    # MobileNetV2
    (1, 960, 7, 7), (1, 1280, 7, 7), (1, 144, 56, 56), (1, 32, 112, 112), (2, 96, 112, 112),
    # a U-Net, bottom and top
    (1, 1024, 8, 8), (1, 64, 128, 128), (1, 64, 256, 256),
    # a network over volumes or video
    (1, 32, 4, 14, 14), (1, 64, 8, 28, 28), (2, 32, 16, 56, 56),
    # wide dense layers
    (8, 4096), (64, 4096), (256, 4096),
)  # fmt: skip
