import pytest
from influencer_mmdet3d import InfluencerCriterion, InfluencerScheduleHook, register
from mmengine.registry import HOOKS, MODELS


def test_importing_registers():
    assert MODELS.get("InfluencerCriterion") is InfluencerCriterion
    assert HOOKS.get("InfluencerScheduleHook") is InfluencerScheduleHook
    assert MODELS.build(dict(type="InfluencerCriterion", num_classes=3)).options.num_classes == 3


def test_idempotent():
    register()
    register()


def test_refuses_to_overwrite(monkeypatch):
    class InfluencerCriterion:
        pass

    monkeypatch.setitem(MODELS._module_dict, "InfluencerCriterion", InfluencerCriterion)
    with pytest.raises(KeyError, match=f"already registered in model by {__name__}"):
        register()
    assert MODELS.get("InfluencerCriterion") is InfluencerCriterion
