"""Sound implementations, however they are built, raise no alarm."""

import pytest
from checks import check_functions, laboratory, run_check
from faulty import RulesRelatives, backend
from sound import SOUND

from normspec.backends.numpy import NumPy
from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.reports.cells import Cell

LABORATORY = laboratory()


def unexpected(name, adapter, dtype, lab):
    """The messages of every check that does not conform."""
    sound = backend(adapter, name)
    verdicts = {claim: run_check(claim, sound, dtype, lab) for claim in check_functions()}
    cells = [
        Cell.of(claim=claim, backend=name, dtype=dtype, verdict=verdict, deviation=None)
        for claim, verdict in verdicts.items()
    ]
    return [cell.message() for cell in cells if not cell.expected]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SOUND)
def test_sound_implementation_conforms(name, dtype):
    assert unexpected(name, SOUND[name], dtype, LABORATORY) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference_conforms(dtype):
    class Reference(RulesRelatives):
        """The article's rules; refuses what has no sample variance."""

        def train(self, x, *rest, **options):
            if x.size < 2 * x.shape[1]:
                raise ValueError("one value per channel")
            return super().train(x, *rest, **options)

        def train_gradients(self, x, *rest, **options):
            if not x.size:
                raise ValueError("nothing to differentiate")
            return super().train_gradients(x, *rest, **options)

        def evaluate_gradients(self, x, *rest, **options):
            if not x.size:
                raise ValueError("nothing to differentiate")
            return super().evaluate_gradients(x, *rest, **options)

        layer = None  # its layer does not refuse

    assert unexpected("reference", Reference(), dtype, LABORATORY) == []


def test_numpy_conforms():
    assert unexpected("numpy", NumPy(), "float32", LABORATORY) == []
