import pytest
from roborefer_spatial.tasks.view_pairs import limit_pairs, ordered_pairs, thin_negatives

ALL = ordered_pairs([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])


def test_one_reference_meets_every_other_view():
    assert ordered_pairs([1, 2, 3], [1]) == [(1, 2), (1, 3)]


def test_all_pairs_are_ordered_both_ways():
    assert len(ALL) == 20
    assert len(set(ALL)) == 20
    assert all(a != b for a, b in ALL)


def test_a_limit_keeps_the_order_and_depends_on_the_keys():
    kept = limit_pairs(ALL, 6, 42, "scene", "1")
    assert len(kept) == 6
    assert kept == [pair for pair in ALL if pair in kept]
    assert kept == limit_pairs(ALL, 6, 42, "scene", "1")
    assert any(kept != limit_pairs(ALL, 6, 42, "scene", str(uid)) for uid in range(2, 6))
    assert limit_pairs(ALL, None, 42) == ALL
    assert limit_pairs(ALL, 99, 42) == ALL


def test_a_pair_keeps_its_rank_when_another_one_goes():
    kept = limit_pairs(ALL, 6, 42, "scene", "1")
    gone = next(pair for pair in ALL if pair not in kept)
    assert limit_pairs([pair for pair in ALL if pair != gone], 6, 42, "scene", "1") == kept


@pytest.mark.parametrize(("ratio", "allowed"), [(0.0, {0}), (0.5, {1, 2}), (1.0, {3}), (9.0, {17}), (None, {17})])
def test_negatives_are_thinned_to_the_ratio(ratio, allowed):
    visible = [index in (0, 7, 13) for index in range(20)]
    kept = thin_negatives(ALL, visible, ratio, 42, "scene", "1")
    assert {ALL[0], ALL[7], ALL[13]} <= set(kept)
    assert len(kept) - 3 in allowed
    assert kept == [pair for pair in ALL if pair in kept]


def test_the_ratio_holds_on_average():
    visible = [index < 3 for index in range(20)]
    counts = [len(thin_negatives(ALL, visible, 0.5, 42, "scene", str(uid))) - 3 for uid in range(2000)]
    # 1.5 expected; the mean of 2000 coin flips has a standard deviation of 0.011
    assert abs(sum(counts) / len(counts) - 1.5) < 0.056
