import numpy as np
import pytest
from roborefer_spatial.images import mark
from roborefer_spatial.predicting import matching


def textured(height=240, width=320, seed=0):
    """A picture with structure at several scales, which features can hold on to."""
    import cv2

    rng = np.random.default_rng(seed)
    layers = [
        rng.integers(0, 255, (height // step + 1, width // step + 1, 3)).astype(np.float32) for step in (4, 12, 30)
    ]
    large = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR) for layer in layers]
    return np.clip(sum(large) / 3, 0, 255).astype(np.uint8)


def square(row, col, side, shape=(240, 320)):
    mask = np.zeros(shape, dtype=bool)
    mask[row : row + side, col : col + side] = True
    return mask


@pytest.mark.parametrize("alpha", [0.3, 0.45, 0.7])
def test_the_mark_is_found_and_taken_away(alpha):
    grey = np.repeat(textured()[..., :1], 3, axis=2) // 2 + 40
    mask = square(60, 80, 70)
    marked = mark(grey, mask, alpha)
    found = matching.find_mark(marked, alpha)
    assert (found & mask).sum() / (found | mask).sum() > 0.98
    plain = matching.without_mark(marked, mask, alpha)
    assert np.abs(plain.astype(int) - grey).max() <= 1 + 0.5 / (1 - alpha)  # 8 bits


def test_nothing_is_marked():
    assert not matching.find_mark(np.full((20, 30, 3), 90, np.uint8), 0.45).any()


def test_sift_carries_a_shifted_object():
    wide = textured(240, 400)
    a, b = wide[:, :320], wide[:, 50:370]
    mask = square(80, 120, 80)
    points_a, points_b = matching.sift()(a, b, mask)
    assert len(points_a) > 10
    np.testing.assert_allclose(np.median(points_a - points_b, axis=0), (50, 0), atol=0.5)
    found = matching.carry(points_a, points_b, 4)
    assert found.point is not None
    assert square(80, 70, 80)[int(found.point[1]), int(found.point[0])]


def test_sift_without_any_feature():
    flat = np.full((100, 120, 3), 128, np.uint8)
    points_a, points_b = matching.sift()(flat, flat, square(20, 20, 40, (100, 120)))
    assert points_a.shape == points_b.shape == (0, 2)


def test_carry_by_hand():
    # reach: 2 x max(90 % quantile of the spread of A, 4) = 20; four agree around (100, 50), two lie elsewhere
    points_a = np.array([(0, 0), (10, 0), (-10, 0), (0, 10), (0, -10), (0, 0)], float)
    points_b = np.array([(100, 50), (104, 50), (98, 50), (100, 52), (300, 10), (10, 200)], float)
    found = matching.carry(points_a, points_b, 4)
    assert (found.point, found.agreeing, found.matches) == ((100, 50), 4, 6)
    assert matching.carry(points_a, points_b, 5).point is None
    assert matching.carry(points_a[:3], points_b[:3], 4) == matching.Found(None, 3, 3)


def test_surroundings_say_where_a_plain_object_is():
    mask = square(100, 100, 40)  # rows and columns 100 to 139: its middle is (120, 120)
    around = np.array([(80.5, 90.5), (160.5, 95.5), (90.5, 150.5), (150.5, 155.5), (120.5, 80.5), (75.5, 120.5)])
    turned = np.stack([200 - around[:, 1], around[:, 0] + 30], axis=1)  # a quarter turn: (120, 120) comes to (80, 150)
    assert matching.carry_with_surroundings(around, turned, mask, (320, 240)) == pytest.approx((80, 150), abs=0.6)
    assert matching.carry_with_surroundings(around, turned, mask, (70, 240)) is None  # outside the query
    assert matching.carry_with_surroundings(around[:5], turned[:5], mask, (320, 240)) is None
    assert matching.carry_with_surroundings(around, around / 4, mask, (320, 240)) is None  # four times farther away


def test_surroundings_reach_a_diameter_further():
    grown = matching.surroundings(square(100, 100, 40))  # a disc of its area has a radius of 22.6
    assert grown[120, 139 + 45] and not grown[120, 139 + 46]


def test_surroundings_are_opencvs_dilation():
    import cv2

    rng = np.random.default_rng(0)
    for shape in [(1, 1), (1, 40), (40, 1), (60, 90), (90, 60)] * 6:
        mask = np.zeros(shape, dtype=bool)
        for _ in range(rng.integers(1, 4)):
            row, col = rng.integers(0, shape)
            mask[row : row + rng.integers(1, 20), col : col + rng.integers(1, 20)] = True
        mask &= rng.random(shape) < rng.choice([0.05, 0.5, 1])
        reach = max(round(2 * float(np.sqrt(mask.sum() / np.pi))), 1)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        np.testing.assert_array_equal(matching.surroundings(mask), cv2.dilate(mask.astype(np.uint8), disc) > 0)


def test_features_of_a_picture_just_asked_about_are_kept():
    wide = textured(240, 400)
    a, b = wide[:, :320], wide[:, 50:370]
    match = matching.sift()
    for mask in (square(80, 120, 80), square(20, 60, 90), square(80, 120, 80)):
        fresh, kept = matching.sift()(a, b, mask), match(a, b, mask)
        for one, other in zip(fresh, kept):
            np.testing.assert_array_equal(one, other)


def test_the_difference_lies_in_what_changed():
    before = textured()
    after = before.copy()
    changed = square(30, 200, 40)
    after[changed] = after[changed] // 2 + 100
    after[200, 10] = 255 - after[200, 10]  # one pixel of dirt
    noise = np.random.default_rng(1).normal(0, 2, after.shape)
    found = matching.difference(before, np.clip(after + noise, 0, 255).astype(np.uint8))
    assert found is not None
    assert changed[int(found[1]), int(found[0])]
    assert matching.difference(before, before) is None


def test_pictures_of_two_sizes_have_no_difference():
    with pytest.raises(ValueError, match=r"the pictures are \(320, 240\) and \(320, 200\): expected equal sizes"):
        matching.difference(textured(), textured(200))
