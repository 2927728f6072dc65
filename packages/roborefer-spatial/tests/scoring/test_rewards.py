import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.scoring.rewards import RewardOptions, rewards, visible_share_of

SIZE = 64, 48
PLAIN = RewardOptions(form=0)


def disc(col, row, radius=5):
    rows, cols = np.mgrid[: SIZE[1], : SIZE[0]]
    return (cols - col) ** 2 + (rows - row) ** 2 <= radius**2


@pytest.fixture
def world(make_sample):
    """Sixty questions, forty of them with a visible object somewhere."""
    rng = np.random.default_rng(0)
    places = [(int(rng.integers(6, 58)), int(rng.integers(6, 42))) for _ in range(40)]
    return [make_sample(place, mask=disc(*place)) for place in places] + [make_sample() for _ in range(20)]


def said(point):
    return NOT_VISIBLE if point is None else format_points([point])


def test_by_hand(make_sample):
    sample = make_sample((32, 24), mask=disc(32, 24, 6))
    size = np.sqrt(disc(32, 24, 6).mean())
    inside, beside, far = (32.5 / 64, 24.5 / 48), (42.5 / 64, 24.5 / 48), (1 / 64, 1 / 48)
    earned = rewards([sample] * 5, [said(inside), said(beside), said(far), NOT_VISIBLE, "hm"], PLAIN)
    near = 0.25 * np.exp(-2 * ((10 / 64) / size) ** 2)
    np.testing.assert_allclose(earned[:2], [1, near], rtol=1e-5)
    assert earned[2] < 0.001
    assert earned[3:].tolist() == [-1, 0]
    absent = make_sample()
    assert rewards([absent] * 3, [NOT_VISIBLE, said(inside), "hm"], PLAIN).tolist() == [1, 0, 0]
    formed = rewards([sample, sample, absent], [said(inside), "hm", NOT_VISIBLE])
    np.testing.assert_allclose(formed, [1.05, 0, 1.05])


def test_half_of_the_points_hit(make_sample):
    sample = make_sample((32, 24), mask=disc(32, 24, 6))
    both = format_points([(32.5 / 64, 24.5 / 48), (0.01, 0.01)])
    assert 0.5 <= rewards([sample], [both], PLAIN)[0] < 0.55


def test_always_not_visible_earns_nothing_at_its_price(world):
    options = RewardOptions(form=0, visible_share=visible_share_of(world))
    assert abs(rewards(world, [NOT_VISIBLE] * len(world), options).mean()) < 1e-12


@settings(max_examples=25)
@given(
    constant=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    skill=st.floats(0.35, 1),
    seed=st.integers(0, 10**6),
)
def test_no_blind_answer_pays_like_an_honest_one(world_of_module, constant, skill, seed):
    """Constant, middle, random, copied, always and never NOT_VISIBLE, against one that is right with chance `skill`."""
    world = world_of_module
    rng = np.random.default_rng(seed)
    options = RewardOptions(visible_share=visible_share_of(world))

    def honest(sample):
        if rng.random() < skill:
            return said(sample.answer_point)
        return said(tuple(rng.random(2))) if sample.visible else said((0.5, 0.5))

    def earns(answer):
        return rewards(world, [answer(sample) for sample in world], options).mean()

    blind = {
        "constant": earns(lambda sample: said(constant)),
        "middle": earns(lambda sample: said((0.5, 0.5))),
        "random": earns(lambda sample: said(tuple(rng.random(2)))),
        "copied": earns(lambda sample: said(sample.ref_point)),
        "always": earns(lambda sample: NOT_VISIBLE),
        "never sure": earns(lambda sample: NOT_VISIBLE if rng.random() < 0.5 else said(tuple(rng.random(2)))),
        "everything": earns(lambda sample: format_points([(x, y) for x in (0.1, 0.5, 0.9) for y in (0.1, 0.5, 0.9)])),
    }
    assert max(blind.values()) < earns(honest), blind
    assert blind["middle"] < 0.2
    # form alone: 0.05


@pytest.fixture(scope="module")
def world_of_module(tmp_path_factory):
    from conftest import SampleMaker

    rng = np.random.default_rng(0)
    make = SampleMaker(tmp_path_factory.mktemp("world"))
    places = [(int(rng.integers(6, 58)), int(rng.integers(6, 42))) for _ in range(120)]
    return [make(place, mask=disc(*place)) for place in places] + [make() for _ in range(60)]


def test_what_is_refused(world):
    with pytest.raises(ValueError, match="60 samples and 1 answers: expected one answer for each sample"):
        rewards(world, ["x"])
    with pytest.raises(ValueError, match="visible_share is 0: expected above 0"):
        RewardOptions(visible_share=0)
    with pytest.raises(ValueError, match="expected 0 <= near < 1"):
        RewardOptions(near=1)
    with pytest.raises(ValueError, match="no sample has a visible object"):
        visible_share_of(world[40:])
    assert rewards([], []).shape == (0,)
