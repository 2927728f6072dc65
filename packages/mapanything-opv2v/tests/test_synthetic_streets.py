"""Towns that are drawn anew: what varies, what must hold in every one, and the figures of a set."""

import math

import numpy as np
import pytest
from mapanything_opv2v import geometry, rawdata, synthetic
from mapanything_opv2v.synthetic import statistics, streets, town, traffic

SEEDS = range(12)
AGENTS = (3, 7, 8, 20, 21, 300, 301)


def drawn(seed, time_s=0.0, agents=AGENTS):
    place = streets.draw_town(seed, "train/x")
    return traffic.draw_moment(place, seed, "train/x", agents, time_s)


def rectangle(car):
    T = car.T_world_vehicle
    return T[0, 3], T[1, 3], math.atan2(T[1, 0], T[0, 0]), car.half[0], car.half[1]


def corners(one):
    x, y, yaw, length, width = one
    c, s = math.cos(yaw), math.sin(yaw)
    return [(x + c * a - s * b, y + s * a + c * b) for a in (-length, length) for b in (-width, width)]


def test_overlap_by_hand():
    many = np.array([(10.0, 0, 0, 2, 1), (3.9, 0, 0, 2, 1), (0, 2.1, math.pi / 2, 2, 1), (3.5, 3.5, math.pi / 4, 2, 1)])
    assert traffic.overlap((0.0, 0.0, 0.0, 2.0, 1.0), many, 0.0).tolist() == [False, True, True, False]
    assert traffic.overlap((0.0, 0.0, 0.0, 2.0, 1.0), many, 6.1).tolist() == [True] * 4


def test_overlap_against_sampled_points():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 60)] * 2), -1).reshape(-1, 2)
    for _ in range(60):
        one, two = ((*rng.uniform(-3, 3, 2), rng.uniform(-4, 4), *rng.uniform(0.5, 3, 2)) for _ in range(2))
        c, s = math.cos(one[2]), math.sin(one[2])
        points = grid * one[3:] @ np.array([[c, s], [-s, c]]) + one[:2]
        c, s = math.cos(two[2]), math.sin(two[2])
        local = (points - two[:2]) @ np.array([[c, -s], [s, c]])
        shares = bool((np.abs(local) < two[3:]).all(axis=1).any())
        found = bool(traffic.overlap(one, np.array([two]), 0.0)[0])
        assert found or not shares
        if found and not shares:  # they share less than a cell of the grid
            assert traffic.overlap(one, np.array([two]), -0.2)[0] == np.False_


def test_streets_are_seen_as_their_shape_says():
    across = np.array([(0.0, 0.0, 1.0, 0.0, 4.0, -1e6, 1e6), (0.0, 0.0, 0.0, 1.0, 3.0, 0.0, 1e6)])  # the second ends
    for rectangle_, expected in (
        ((0.0, 5.2, 0.0, 1.0, 1.0), True),  # ends at 4.2, margin 0.5 reaches the first street
        ((10.0, 5.6, 0.0, 1.0, 1.0), False),
        ((4.2, 20.0, 0.0, 1.0, 1.0), True),
        ((0.0, -20.0, 0.0, 1.0, 1.0), False),  # the second street does not go there
    ):
        assert streets.on_street(rectangle_, across, 0.5) is expected, rectangle_


@pytest.mark.parametrize("seed", SEEDS)
def test_every_town_keeps_its_promises(seed):
    moment = drawn(seed)
    plan = moment.town
    for row in plan.boxes:  # no building, hedge or wall on a street
        yaw = math.atan2(row[4], row[3])
        assert not streets.on_street((row[0], row[1], yaw, row[12], row[13]), plan.streets, 0.0)
    cars = {car.actor_id: rectangle(car) for car in moment.cars}
    for number, one in cars.items():
        others = np.array([other for key, other in cars.items() if key != number])
        assert not traffic.overlap(one, others, 0.0).any()
        assert not traffic.overlap(one, traffic._Places(plan, np.random.default_rng(0)).walls, 0.0).any()
    first = moment.car(AGENTS[0]).T_world_vehicle[:2, 3]
    for agent in AGENTS[1:]:
        away = np.linalg.norm(moment.car(agent).T_world_vehicle[:2, 3] - first)
        assert traffic.NEAREST_M - 0.1 <= away <= traffic.FARTHEST_M + 0.1
    for car in moment.cars:
        geometry.check_rigid(car.T_world_vehicle)
        x, y, z = car.T_world_vehicle[:3, 3]
        assert z == pytest.approx(town.ground_height(x, y, plan.planes))


def test_towns_differ_and_a_town_is_itself():
    again = [drawn(4), drawn(4)]
    assert np.array_equal(again[0].town.boxes, again[1].town.boxes)
    assert all(np.array_equal(a.T_world_vehicle, b.T_world_vehicle) for a, b in zip(again[0].cars, again[1].cars))
    looks = {drawn(seed, agents=(1,)).town.look.tobytes() for seed in SEEDS}
    plans = {streets.draw_town(seed, "a").streets.tobytes() for seed in SEEDS}
    assert len(looks) == len(plans) == len(SEEDS)
    assert {len(streets.draw_town(seed, "a").streets) for seed in SEEDS} >= {2, 3, 4}


def test_headings_and_distances_are_spread():
    headings, distances = [], []
    for seed in range(40):
        moment = drawn(seed, agents=(1, 2, 3))
        a = moment.car(1).T_world_vehicle
        for other in (2, 3):
            between = geometry.invert(a) @ moment.car(other).T_world_vehicle
            headings.append(math.degrees(math.atan2(between[1, 0], between[0, 0])) % 360)
            distances.append(np.linalg.norm(between[:2, 3]))
    assert np.histogram(headings, 4, (0, 360))[0].min() >= 8  # of 80
    assert np.histogram(distances, 4, (5, 70))[0].min() >= 8


def test_vehicles_move_and_do_not_meet():
    for seed in range(6):
        first, later = drawn(seed), drawn(seed, 3.0)
        assert [car.actor_id for car in first.cars] == [car.actor_id for car in later.cars]
        for before, after in zip(first.cars, later.cars):
            moved = np.linalg.norm((after.T_world_vehicle - before.T_world_vehicle)[:2, 3])
            assert moved == pytest.approx(before.speed_kmh / 3.6 * 3, abs=0.01)
        cars = np.array([rectangle(car) for car in later.cars])
        for number, one in enumerate(cars):
            assert not traffic.overlap(tuple(one), np.delete(cars, number, 0), 0.0).any()
        assert any(car.speed_kmh == 0 for car in first.cars)


@pytest.fixture(scope="module")
def set_of_towns(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    return synthetic.write_town(
        root,
        seed=3,
        sequences=4,
        frames=1,
        agents=4,
        fewest_agents=2,
        infrastructure=1,
        image_size=(160, 120),
        lidar_size=(8, 64),
        layout="streets",
    )


def test_a_set_has_towns_of_several_sizes_and_masts(set_of_towns):
    index = rawdata.index_tree(set_of_towns.root)
    counts = {len(frame.agents) for frame in index.splits["train"]}
    assert len(counts) > 1 and min(counts) >= 3 and max(counts) <= 5
    for frame in index.splits["train"]:
        assert [agent.agent_id for agent in frame.agents] == list(set_of_towns.agents_of("train", frame.sequence))
        mast = rawdata.load_agent_yaml(frame.agents[0].yaml_path)
        x, y, z = np.array(mast.lidar_pose[:3])
        moment = set_of_towns.moment("train", frame.sequence, frame.frame)
        assert 4.0 < z - town.ground_height(x, y, moment.town.planes) < 6.0


def test_workers_change_nothing(set_of_towns, tmp_path):
    again = synthetic.write_town(
        tmp_path, seed=3, sequences=4, frames=1, agents=4, fewest_agents=2, infrastructure=1, image_size=(160, 120),
        lidar_size=(8, 64), layout="streets", workers=2,
    )  # fmt: skip
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    assert files and all((tmp_path / f).read_bytes() == (set_of_towns.root / f).read_bytes() for f in files)
    assert again.agents == set_of_towns.agents


def test_statistics_agree_with_poses_and_say_what_opv2v_is_like(set_of_towns):
    index = rawdata.index_tree(set_of_towns.root, depth_root=set_of_towns.depth_root)
    found = statistics.of_tree(index)
    assert found.frames == 4 and len(found.agents) == 4
    frame = index.splits["train"][0]
    xyz = [np.array(rawdata.load_agent_yaml(agent.yaml_path).lidar_pose[:3]) for agent in frame.agents]
    expected = [np.linalg.norm(a - b) for a in xyz for b in xyz if a is not b]
    assert found.distance_m[: len(expected)] == pytest.approx(expected)
    assert ((found.overlap >= 0) & (found.overlap <= 1)).all() and ((found.alone > 0) & (found.alone < 1)).all()
    text = "\n".join(statistics.lines(found))
    assert "OPV2V: mean 2.89 (2 to 7)" in text and "share of surface that one agent only sees" in text


def test_an_agent_sees_its_own_surface(set_of_towns):
    index = rawdata.index_tree(set_of_towns.root, depth_root=set_of_towns.depth_root)
    agent = index.splits["train"][0].agents[1]
    meta, depths = rawdata.load_agent_yaml(agent.yaml_path), statistics._depths(agent)
    points = statistics._surface(meta, depths, np.random.default_rng(0))
    assert len(points) > 500 and statistics.sees(meta, depths, points).mean() > 0.99
    behind = points + 0.5 * (points - points.mean(axis=0))
    assert statistics.sees(meta, depths, behind).mean() < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "village"}, "write_town: layout='village', expected one of streets, crossing"),
        ({"agents": 8}, "write_town: agents=8, a town of streets has 1 to 7"),
        ({"fewest_agents": 4}, "write_town: fewest_agents=4 with layout='streets', agents=2"),
        ({"fewest_agents": 1, "layout": "crossing"}, "write_town: fewest_agents=1 with layout='crossing'"),
        ({"frame_seconds": 0.0}, "write_town: frame_seconds=0.0, expected more than 0"),
    ],
)
def test_what_no_town_can_have_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(").replace(")", r"\)")):
        synthetic.write_town(tmp_path, seed=1, **{"layout": "streets", **options})
