"""benchmarks/learn_towns_cast.py and learn_towns_start.py: what the start is shown, and what it is asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
bent = pytest.importorskip("mapanything_opv2v.losses").bent

FOLDER = Path(__file__).parents[1] / "benchmarks"
SIZE = (56, 14)


@pytest.fixture(scope="module")
def benchmark_on_path():
    sys.path.append(str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def casting(benchmark_on_path):
    return importlib.import_module("learn_towns_cast")


@pytest.fixture(scope="module")
def start(benchmark_on_path):
    return importlib.import_module("learn_towns_start")


@pytest.fixture(scope="module")
def cover():
    seen = np.ones(SIZE[::-1], bool)
    seen[:, 5] = False
    return seen


@pytest.fixture(scope="module")
def folder(casting, cover, tmp_path_factory):
    made = tmp_path_factory.mktemp("cast") / "train"
    assert casting.cast(made, "train", 3, SIZE, cover, vehicles=4, workers=2) == 12
    return made


@pytest.fixture
def pack(start, folder, monkeypatch):
    half = torch.tensor([0.5, 0.5, 0.5])
    monkeypatch.setattr("learn_towns_pack.normalisation", lambda name: (half, half))
    return start.Pack(folder, "cpu")


def test_what_the_rig_does_not_cover_is_black(casting, folder, cover):
    color, known = np.load(folder / "color.npy"), np.load(folder / "range_m.npy") > 0
    assert color.shape == (12, 1, 14, 56, 3)
    assert not color[:, :, :, 5].any() and not known[:, :, :, 5].any()
    assert known.any() and not np.load(folder / "surface.npy")[~known].any()
    assert (casting.covered(folder) == cover).all()


def test_towns_do_not_depend_on_processes_and_splits_share_none(casting, folder, cover, pack):
    alone = casting.views("train", "cast_000001", SIZE, cover, 4)
    at = [row for row, town in enumerate(pack.town_of) if town == "cast_000001"]
    assert np.array_equal(np.concatenate([row["color"] for row in alone]), pack.color[at, 0].numpy())
    other = casting.views("validate", "cast_000001", SIZE, cover, 4)
    assert not np.array_equal(alone[0]["color"], other[0]["color"])


def test_there_may_be_more_processes_than_towns(casting, cover, tmp_path):
    assert casting.cast(tmp_path / "one", "train", 1, SIZE, cover, vehicles=2, workers=2) == 2


def test_time_ends_the_casting(casting, cover, tmp_path):
    assert casting.cast(tmp_path / "few", "train", 50, SIZE, cover, vehicles=2, seconds=0) == 2


def test_pairs_are_drawn_by_distance(start, pack):
    pairs = start.Pairs(pack, 70.0)
    rows = pairs.draw(np.random.default_rng(0), 50, 10.0, 30.0)
    away = np.linalg.norm(pack.positions[rows[:, 0]] - pack.positions[rows[:, 1]], axis=1)
    assert away.min() >= 10 and away.max() <= 30
    assert (np.array(pack.town_of)[rows[:, 0]] == np.array(pack.town_of)[rows[:, 1]]).all()


def test_the_truth_of_a_panorama_against_itself_is_a_turn(start, pack):
    views = pack.views(np.array([[0, 0]]), torch.tensor([[0, 14]]))  # a quarter of its columns
    poses, points, known = start.truth(views, 7)
    assert torch.allclose(poses[0], torch.eye(4)[None], atol=1e-5)
    assert start.angles(poses[1][:, :3, :3]) == pytest.approx(90, abs=1e-3)
    assert torch.allclose(poses[1][:, :3, 3], torch.zeros(1, 3), atol=1e-4)
    moved = torch.roll(points[1], -2, 2)  # 14 columns are two patches
    there = known[0] & torch.roll(known[1], -2, 2)
    assert there.any() and torch.allclose(moved[there], points[0][there], atol=1e-3)


def test_training_widens_from_near_pairs_and_turns(start, pack):
    pairs = start.Pairs(pack, 70.0)
    plan = start.Plan("", "", "", 1.0, batch=64, same=1.0, near_m=8.0, far_m=70.0, widen_steps=10)
    first, last = (start.batch(pairs, plan, widened, np.random.default_rng(1)) for widened in (0.0, 1.0))
    away = [(v[1]["camera_pose_trans"] - v[0]["camera_pose_trans"]).norm(dim=-1) for v in (first, last)]
    assert away[0].max() == 0 and away[1].min() > 0
    black = (first[0]["img"][..., :, :] * 0.5 + 0.5).abs().amin(dim=(1, 2))
    assert torch.allclose(black.amin(dim=1), torch.zeros(64), atol=1e-6)  # other exposure, the same black


def losses(movement, still=1.0):
    return {"movement": torch.tensor(movement), "still": torch.tensor(still)}


def test_pairs_widen_by_steps_or_as_near_ones_are_mastered(start):
    by_steps = start.Widening(start.Plan("", "", "", 1.0, widen_steps=100, mastered=None))
    by_steps.after(25, 0.1, losses(1.0))
    assert by_steps.at == 0.25

    mastered = start.Widening(start.Plan("", "", "", 1.0, widen_steps=100, mastered=0.6))
    seen = []
    for step in range(1, 201):  # half of them with a movement that is no better than none
        mastered.after(step, 0.1, losses(1.0 if step <= 100 else 0.1))
        seen.append(mastered.at)
    assert seen[99] == 0 and 0 < seen[159] < seen[199] <= 1


def test_pairs_widen_in_the_end_though_nothing_is_mastered(start):
    widening = start.Widening(start.Plan("", "", "", 1.0, widen_steps=100, mastered=0.6))
    for done, at in ((0.2, 0.0), (0.5, 0.5), (0.9, 1.0)):
        widening.after(20, done, losses(1.0))
        assert widening.at == pytest.approx(at)


def test_the_right_answer_has_no_loss(start, pack):
    views = pack.views(np.array([[0, 1], [5, 6]]), torch.tensor([[3, 9], [0, 40]]))
    poses, points, _ = start.truth(views, 7)

    def right(views):
        from scipy.spatial.transform import Rotation

        quats = [torch.from_numpy(Rotation.from_matrix(p[:, :3, :3].numpy()).as_quat()).float() for p in poses]
        said = [torch.cat([p[:, :3, 3] / start.UNIT_M, q], dim=1) for p, q in zip(poses, quats)]
        return said, [bent(part) for part in points]

    for plan in (start.Plan("", "", "", 1.0, bent=bent, root=root) for bent, root in ((0, 0), (1, 0), (0, 1))):
        losses = start.terms(right, views, 7, plan)
        assert losses.pop("still") > 0.1, plan  # what "no movement" has
        assert all(value < 1e-3 for value in losses.values()), plan
        wrong = start.terms(lambda views: (right(views)[0][::-1], right(views)[1]), views, 7, plan)
        assert wrong["turn"] > 0.1 and wrong["movement"] > 0.1


def test_the_root_is_the_distance_of_quaternions(start):
    pose = torch.eye(4)[None]
    raw = torch.tensor([[0.0, 0.0, 0.0, 0.0, np.sin(0.6), 0.0, np.cos(0.6)]])
    plan = start.Plan("", "", "", 1.0, root=True)
    turn, movement = start.turn_term(raw, pose, plan), start.movement_term(raw[:, :3], pose, plan)
    apart = (raw[0, 3:] - torch.tensor([0.0, 0.0, 0.0, 1.0])).square().sum()
    assert turn == pytest.approx(float(start.root(apart)), rel=1e-4) and movement == 0
    assert start.root(torch.tensor(1.0)) / start.root(torch.tensor(0.25)) < 1.7  # twice as far, not twice as bad


def test_a_start_ends_by_steps_or_by_seconds(start):
    by_time, by_steps = (start.Plan("", "", "", 100.0, steps=steps) for steps in (None, 50))
    assert start.progress(40, 25.0, by_time) == 0.25
    assert start.progress(40, 25.0, by_steps) == 0.8


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pose_head = torch.nn.Linear(3, 2)
        self.info_sharing = torch.nn.Module()
        self.info_sharing.self_attention_blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3)])


def test_a_model_that_cannot_be_compiled_stays_as_written(benchmark_on_path, monkeypatch, capsys):
    fast, model, x = importlib.import_module("learn_towns_fast"), Small(), torch.ones(1, 3)
    before = model.pose_head(x)

    def broken(self, **options):
        self._compiled_call_impl = lambda *_: (_ for _ in ()).throw(RuntimeError("no compiler here"))

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    assert fast.compile_parts(model, lambda: model.pose_head(x)) is False
    assert "not compiled: RuntimeError: no compiler here" in capsys.readouterr().out
    assert torch.equal(model.pose_head(x), before)


def test_blocks_and_head_are_compiled_in_place(benchmark_on_path, monkeypatch, capsys):
    fast, model, names = importlib.import_module("learn_towns_fast"), Small(), set(Small().state_dict())
    chosen = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: chosen.append(self))
    assert fast.compile_parts(model, lambda: None) is True
    assert chosen == [model.info_sharing.self_attention_blocks[0], model.pose_head]
    assert set(model.state_dict()) == names and "compiled in" in capsys.readouterr().out


def test_the_first_vehicle_leads(start, pack, casting):
    pack_module = importlib.import_module("learn_towns_pack")
    rows = pack.pairs(70.0)
    led = pack_module.led_by_the_first(pack, rows)
    assert set(led[:, 0]) <= {0, 4, 8} and 0 < len(led) < len(rows)  # 4 vehicles of a moment


def test_all_pairs_of_a_moment_are_found_once(pack):
    rows = {tuple(pair) for pair in pack.pairs()}
    assert rows == {(a, b) for a in range(12) for b in range(12) if a != b and a // 4 == b // 4}
    near = pack.pairs(20.0)
    away = np.linalg.norm(pack.positions[near[:, 0]] - pack.positions[near[:, 1]], axis=1)
    assert away.max() <= 20 and len(near) == sum(
        np.linalg.norm(pack.positions[a] - pack.positions[b]) <= 20 for a, b in rows
    )
