import pytest


@pytest.fixture
def samples(make_sample):
    return [
        make_sample((3, 3), images=True),
        make_sample(images=True),
        make_sample((9, 9), task="t1_concat", images=True),
    ]
