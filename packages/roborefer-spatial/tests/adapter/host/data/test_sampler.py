import pytest
from roborefer_spatial.host.data.sampler import rows_used


@pytest.mark.parametrize(("rows", "batch", "used"), [(10, 4, 8), (8, 4, 8), (3, 4, 0), (0, 4, 0)])
def test_rows_used(rows, batch, used):
    assert rows_used(rows, batch) == used
