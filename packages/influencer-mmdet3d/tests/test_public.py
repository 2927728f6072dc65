"""What `import influencer_mmdet3d` gives."""

import subprocess
import sys

import influencer_mmdet3d
import pytest


@pytest.mark.parametrize("name", influencer_mmdet3d.__all__)
def test_every_public_name_is_there(name):
    value = getattr(influencer_mmdet3d, name)
    assert value.__doc__ if callable(value) else value
    assert name in dir(influencer_mmdet3d)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'influencer_mmdet3d' has no attribute 'absent'"):
        influencer_mmdet3d.absent  # noqa: B018


def test_what_is_not_needed_is_not_imported():
    code = (
        "import sys, influencer_mmdet3d\n"
        "late = {f'influencer_mmdet3d.{name}' for name in ('host.verify', 'data.check', 'loss.embedding')}\n"
        "assert not late & set(sys.modules)\n"
        "influencer_mmdet3d.check_dataset\n"
        "assert late & set(sys.modules) == {'influencer_mmdet3d.data.check'}\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
