import os
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from packaging.version import Version

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton; the kernels' tests then run on the CPU


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def device():
    """Where the kernels run: on a GPU, or in Triton's interpreter."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if old_interpreter():
        pytest.skip(
            f"Triton {version('triton')}'s interpreter fails with NumPy {version('numpy')}: take Triton 3.7 or newer"
        )
    return torch.device("cpu")


def old_interpreter() -> bool:
    """Tell whether Triton makes numbers of arrays with one element, as before 3.7, and NumPy, from 2.5 on, refuses."""
    try:
        return Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.5")
    except PackageNotFoundError:  # without Triton, its tests are skipped
        return False


@pytest.fixture(scope="session", autouse=True)
def _interpreter_prepares_once():
    """Let Triton's interpreter replace its language once in a launch, not again in each call of a device function.

    The second time it finds nothing left to replace, and looking for it is most of the interpreter's time.
    """
    interpreter = sys.modules.get("triton.runtime.interpreter")
    real = getattr(interpreter, "_patch_lang", None)
    if real is None or not hasattr(interpreter, "_LangPatchScope"):  # no interpreter, or one that works otherwise
        yield
        return
    language, done = sys.modules["triton.language"], set()
    modules = language, language.core

    def once(function):
        names = {m.__name__ for m in modules if any(m is value for value in function.__globals__.values())}
        if names <= done:
            return interpreter._LangPatchScope()  # with nothing to put back
        scope = real(function)
        restore = scope.restore
        scope.restore = lambda: (restore(), done.clear())
        done.update(names)
        return scope

    interpreter._patch_lang = once
    yield
    interpreter._patch_lang = real


@pytest.fixture
def fresh():
    """A generator with a seed of its own in every run; the seed is printed with a failure."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
