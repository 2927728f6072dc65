import pytest
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.host.options import CriterionOptions


def test_defaults_and_conversion():
    options = CriterionOptions.from_kwargs(num_classes=13, loss_weight=[1, 2, 3, 4], temperature=1)
    assert options.loss_weight == (1.0, 2.0, 3.0, 4.0) and options.temperature == 1.0
    assert options.form == "influence" and options.iter_matcher is True
    assert (
        options.pilot_weight == 1.0 and CriterionOptions.from_kwargs(num_classes=13, pilot_weight=2).pilot_weight == 2
    )
    assert options.class_price == 1.0 and CriterionOptions(13, class_cost_weight=0).class_price == 0.0


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({}, "num_classes is required, e.g. 13 for S3DIS"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"num_classes": 13.0}, "num_classes must be a positive integer, got 13.0"),
        ({"num_classes": 13, "matcher": {}}, r"unknown option 'matcher'.*_delete_=True"),
        ({"num_classes": 13, "temprature": 1.0}, "unknown option 'temprature'. Did you mean 'temperature'"),
        ({"num_classes": 13, "loss_weight": [1, 2, 3]}, r"loss_weight must hold 4 numbers.*got \[1, 2, 3\]"),
        ({"num_classes": 13, "loss_weight": [1]}, r"loss_weight must hold 4 numbers.*got \[1\]"),
        ({"num_classes": 13, "pilot_weight": -1}, "pilot_weight must be a finite number >= 0, got -1"),
        ({"num_classes": 13, "loss_weight": [1, -2]}, "loss_weight must be a finite number >= 0, got -2"),
        ({"num_classes": 13, "nonfinite": "ignore"}, r"nonfinite must be one of \('raise', 'skip'\), got 'ignore'"),
        ({"num_classes": 13, "loss_weight": "1234"}, "loss_weight must hold 4 numbers"),
        ({"num_classes": 13, "loss_weight": [1, 2, 3, -1]}, "loss_weight must be a finite number >= 0, got -1"),
        ({"num_classes": 13, "temperature": 0}, "temperature must be > 0, got 0"),
        ({"num_classes": 13, "temperature": float("nan")}, "temperature must be a finite number >= 0, got nan"),
        ({"num_classes": 13, "bg_weight": "0.1"}, "bg_weight must be a finite number >= 0, got '0.1'"),
        ({"num_classes": 13, "soft_share": 1.5}, r"soft_share must be in \[0, 1\], got 1.5"),
        (
            {"num_classes": 13, "rep_margin": 2.0},
            r"rep_margin must be in \[0, 1\], got 2.0; .*rep_margin=1.0, the default",
        ),
        ({"num_classes": 13, "class_cost_weight": -1}, "class_cost_weight must be a finite number >= 0, got -1"),
        ({"num_classes": 13, "score_others": True}, "score_others must be a finite number >= 0, got True"),
        ({"num_classes": 13, "form": "geomean"}, "leave `form` out. For comparisons it is benchmarks/geomean.py"),
        ({"num_classes": 13, "iter_matcher": 1}, "iter_matcher must be True or False, got 1"),
        ({"num_classes": 13, "form": "hungarian"}, "form must be 'influence', got 'hungarian'"),
    ],
)
def test_wrong_options_say_what_and_why(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CriterionOptions.from_kwargs(**kwargs)


def test_two_weights_of_the_research_notes():
    """[class, scale]: three times the influencer loss, its three terms alike."""
    options = CriterionOptions.from_kwargs(num_classes=13, loss_weight=[0.7, 3.0], bg_weight=0.2)
    assert options.loss_weight == (0.7, 1.0, 1.0, 0.5)
    assert (options.attr_weight, options.rep_weight) == (3.0, pytest.approx(0.3))
    assert options.bg_weight == pytest.approx(0.6)


def test_a_recipe_stands_for_its_parts_and_what_is_given_wins():
    plain = CriterionOptions.from_kwargs(num_classes=13)
    free = CriterionOptions.from_kwargs(num_classes=13, recipe="nms_free")
    assert (free.class_cost, free.class_cost_weight, free.score_others, free.non_object_weight) == (
        "log_odds", 2.0, 1.0, 0.2,
    )  # fmt: skip
    assert plain.class_cost == "probability"
    own = CriterionOptions.from_kwargs(num_classes=13, recipe="nms_free", non_object_weight=0.05)
    assert own.non_object_weight == 0.05 and own.score_others == 1.0
    with pytest.raises(ValueError, match=r"recipe must be one of \('nms_free',\), got 'fast'"):
        CriterionOptions.from_kwargs(num_classes=13, recipe="fast")
    with pytest.raises(ValueError, match=r"class_cost must be one of \('probability', 'log_odds'\), got 'odds'"):
        CriterionOptions.from_kwargs(num_classes=13, class_cost="odds")


def test_a_recipe_cannot_be_ramped():
    with pytest.raises(ValueError, match="a recipe is chosen once"):
        InfluencerCriterion(num_classes=13).set_option("recipe", "nms_free")
