"""Adapters that are hostile to the process they run in, each in its own way, when they train; evaluation is sound."""

import contextlib
import ctypes
import os
import random
import re
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
from plain import Plain


class _Hostile(Plain):
    def train(self, *arrays, **options):
        self.attack()
        return super().train(*arrays, **options)


# -- it dies ----------------------------------------------------------------------------------------------------------


class Segfaults(_Hostile):
    def attack(self):
        ctypes.string_at(0)


class Aborts(_Hostile):
    def attack(self):
        os.abort()


class LeavesAtOnce(_Hostile):
    def attack(self):
        os._exit(3)


class ClosesEverything(_Hostile):
    def attack(self):
        os.closerange(0, 256)


class TalksBack(_Hostile):
    """Writes to every file that is open."""

    def attack(self):
        for number in range(3, 32):
            with contextlib.suppress(OSError):
                os.write(number, b"\xff" * 64)


class DiesOfEmptyBatches(Plain):
    def train(self, x, *arrays, **options):
        return super().train(x, *arrays, **options) if x.size else ctypes.string_at(0)


class DiesOfEmptyEvaluations(Plain):
    def evaluate(self, x, *arrays, **options):
        return super().evaluate(x, *arrays, **options) if x.size else ctypes.string_at(0)


class DiesInRankFive(Plain):
    def train(self, x, *arrays, **options):
        return super().train(x, *arrays, **options) if x.ndim < 5 else ctypes.string_at(0)


class LayerDies(Plain):
    def layer(self, *arguments, **options):
        os._exit(3)


# -- it does not come back --------------------------------------------------------------------------------------------


class Sleeps(_Hostile):
    def attack(self):
        time.sleep(1e6)


class Spins(_Hostile):
    def attack(self):
        while True:
            pass


class HoldsTheLock(_Hostile):
    """No other thread of its process gets a turn."""

    def attack(self):
        re.match("(a+)+$", 64 * "a" + "b")


# -- it raises what no one catches ------------------------------------------------------------------------------------


class Exits(_Hostile):
    def attack(self):
        sys.exit(3)


class Interrupts(_Hostile):
    def attack(self):
        raise KeyboardInterrupt


class RaisesTheBase(_Hostile):
    def attack(self):
        raise BaseException("nothing is more general")


class Recurses(_Hostile):
    def attack(self):
        self.attack()


class Unspeakable(Exception):
    def __str__(self):
        raise self


class RaisesTheUnspeakable(_Hostile):
    def attack(self):
        raise Unspeakable


class Allocates(_Hostile):
    def attack(self):
        blocks = []
        while True:
            blocks.append(bytearray(2**24))


# -- it returns something else ----------------------------------------------------------------------------------------


class Yields(Plain):
    def train(self, *arrays, **options):
        yield from super().train(*arrays, **options)


class ReturnsAnObject(Plain):
    def train(self, *arrays, **options):
        return object()


class ReturnsTooMuch(Plain):
    def train(self, *arrays, **options):
        return 10**6 * super().train(*arrays, **options)


class ReturnsAHugeArray(Plain):
    def train(self, x, *arrays, **options):
        return np.broadcast_to(x.ravel()[:1], (10**6, 10**6)), *arrays[2:]


class Odd(np.ndarray):
    def __array_finalize__(self, made_from):
        if made_from is not None and sys._getframe(1).f_code.co_name != "train":
            raise OSError("not to be looked at")

    def __eq__(self, other):
        raise OSError("not to be compared")


class ReturnsASubclass(Plain):
    """Nothing is wrong with it, as long as one takes it for an array."""

    def train(self, *arrays, **options):
        y, *state = super().train(*arrays, **options)
        return y.view(Odd), *state


# -- it is loud, or untidy, and right ---------------------------------------------------------------------------------


class Prints(_Hostile):
    def attack(self):
        for stream in (sys.stdout, sys.stderr):
            stream.write(2**19 * "x" + "\n")
        os.write(1, 2**19 * b"y")


class LeavesThreads(_Hostile):
    def attack(self):
        if threading.active_count() < 8:
            threading.Thread(target=time.sleep, args=(1e6,)).start()


class LeavesProcesses(_Hostile):
    left = 0

    def attack(self):
        if not LeavesProcesses.left:
            program = "import time; time.sleep(1e6)"
            LeavesProcesses.left = subprocess.Popen([sys.executable, "-c", program, __file__]).pid


class Disturbs(_Hostile):
    def attack(self):
        np.seterr(all="raise")
        warnings.simplefilter("error")
        random.seed(0)
        np.random.seed(0)
        os.environ.clear()
        os.chdir("/")
        np.var = np.mean
        np.abs = np.add = np.array_equal = np.isfinite = None
