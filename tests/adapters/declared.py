"""Adapters that declare a deviation: some rightly, some not."""

from plain import Plain

BIASED = {
    "claim": "running.sample-variance",
    "rival": "population variance, divisor m",
    "versions": "",
    "reason": "the kernel keeps one variance",
    "link": "https://example.org/variance",
}


class Undeclared(Plain):
    version = "2.1"
    ddof = 0


class AsDeclared(Undeclared):
    deviations = [BIASED]


class ForThisVersion(Undeclared):
    deviations = [{**BIASED, "versions": ">=2,<3"}]


class ForThisDtype(Undeclared):
    deviations = [{**BIASED, "dtypes": ("float32",)}]


class WithoutVersion(Undeclared):
    version = "a build of Tuesday"
    deviations = [{**BIASED, "versions": "<2"}]


class ForOtherVersion(Undeclared):
    deviations = [{**BIASED, "versions": "<2"}]


class ForOtherDtype(Undeclared):
    deviations = [{**BIASED, "dtypes": ("float16",)}]


class AnotherRival(Undeclared):
    deviations = [{**BIASED, "rival": "eps mixed in"}]


class Sound(Plain):
    deviations = [BIASED]
