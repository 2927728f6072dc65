import subprocess
import sys

import pytest
import roborefer_spatial


@pytest.mark.parametrize("name", sorted(set(roborefer_spatial._HOME) - {"LazySupervisedSpatialDataset"}))
def test_every_public_name_is_there(name):
    value = getattr(roborefer_spatial, name)
    assert isinstance(value, str) or value.__module__ == f"roborefer_spatial.{roborefer_spatial._HOME[name]}"


def test_all_lists_every_public_name():
    assert set(roborefer_spatial.__all__) == {"__version__", *roborefer_spatial._HOME}


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'roborefer_spatial' has no attribute 'guess'"):
        _ = roborefer_spatial.guess


def test_importing_it_loads_no_other_module():
    code = "import sys, roborefer_spatial; print(*(m for m in sys.modules if m.startswith('roborefer_spatial.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
