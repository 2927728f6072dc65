"""What is left out by name: rules, what they take out of a tree, and who says so."""

import json
import logging
import shutil

import pytest
from mapanything_opv2v import checks, cli, rawdata
from mapanything_opv2v.rawdata import exclude

BAD, FRAME = exclude.KNOWN_BAD


def names(index, split="test"):
    return [(frame.sequence, frame.frame, agent.agent_id) for frame in index.splits[split] for agent in frame.agents]


def test_known_bad_is_what_public_code_says():
    assert BAD == "2021_09_09_13_20_58" and "camera3" in exclude.KNOWN_BAD[BAD]
    assert FRAME == "2021_08_20_21_10_24/000265"


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("seq", (None, "seq", None, None)),
        ("seq/000265", (None, "seq", 265, None)),
        ("seq/agent-3", (None, "seq", None, -3)),
        ("test/seq/000265/agent641", ("test", "seq", 265, 641)),
        ("test", (None, "test", None, None)),
    ],
)
def test_names_mean_sequence_frame_and_agent(entry, parts):
    (rule,) = exclude.parse(entry)
    assert (rule.split, rule.sequence, rule.frame, rule.agent) == parts


def test_files_known_and_none(tmp_path):
    listed = tmp_path / "bad.txt"
    listed.write_text("# ours\nseq/000003  # blurred\n\nknown\n")
    assert [rule.name for rule in exclude.parse([listed, "other"])] == ["seq/000003", BAD, FRAME, "other"]
    assert [rule.name for rule in exclude.parse(["known", listed])] == [BAD, FRAME, "seq/000003"]
    assert exclude.parse("none") == exclude.parse(None) == exclude.parse([]) == ()


@pytest.mark.parametrize("entry", ["seq/265", "seq/000265/641", "seq/000265/agent1/more", "", "../seq"])
def test_another_form_is_refused_and_the_right_one_named(entry):
    with pytest.raises(ValueError, match=r"expected \[SPLIT/\]SEQUENCE\[/FRAME\]\[/agentID\]"):
        exclude.parse([entry])
    with pytest.raises(ValueError, match="give it alone"):
        exclude.parse(["none", "seq"])


def test_rules_take_sequences_frames_and_agents_out_and_count(small_town):
    first, second = small_town.sequences
    whole = names(rawdata.index_tree(small_town.root))
    agent = small_town.agents[-1]
    frame = small_town.frames[0]
    left = rawdata.index_tree(small_town.root, exclude=[first])
    assert names(left) == [name for name in whole if name[0] == second]
    assert {str(e).partition(":")[0] for e in left.excluded} == {"train", "validate", "test"}
    left = rawdata.index_tree(small_town.root, exclude=[f"test/{first}/{frame}", f"{second}/agent{agent}"])
    expected = [n for n in whole if n[:2] != (first, frame) and (n[0], n[2]) != (second, agent)]
    assert names(left) == expected
    counts = {(e.split, e.rule.name): e.agent_frames for e in left.excluded}
    assert counts["test", f"test/{first}/{frame}"] == 4 and counts["test", f"{second}/agent{agent}"] == 1
    assert names(left, "train") == [
        n for n in names(rawdata.index_tree(small_town.root), "train") if n in expected or n[0] == first
    ]


@pytest.fixture
def published(own_town):
    """The town with the published fault: a sequence without camera3, under its real name."""
    root, depth = own_town
    for tree in (root, depth):
        shutil.move(tree / "test" / min(p.name for p in (tree / "test").iterdir()), tree / "test" / BAD)
    for path in (root / "test" / BAD).rglob("*_camera3.png"):
        path.unlink()
    return root, depth


def test_the_known_sequence_does_not_stop_a_dataset(published, double_host, caplog):
    root, depth = published
    options = dict(
        ROOT=root,
        depth_root=depth,
        split="test",
        num_views=2,
        resolution=(40, 30),
        transform="imgnorm",
        data_norm_type="dinov2",
    )
    with caplog.at_level(logging.WARNING):
        dataset = double_host.OPV2VDataset(**options)
    assert BAD not in {frame.sequence for frame in dataset.frames} and len(dataset) == 7
    assert f"test: left out {BAD}, 8 agents at frames: published without camera3" in caplog.text
    with pytest.raises(ValueError, match=r"camera3\b.*exclude=\[\.\.\.\]"):
        double_host.OPV2VDataset(**options, exclude="none")


def test_check_tells_known_from_new(published, capsys, tmp_path):
    root, depth = published
    run = ["check", str(root), "--depth-root", str(depth), "--splits", "test", "--quiet"]
    assert cli.main([*run, "--json", str(tmp_path / "r.json")]) == 0
    out = capsys.readouterr().out
    assert f"known, left out by default: 8 problems of {BAD}: published without camera3" in out
    assert "4 scenes" in out and "0 problems" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["known"]) == 8 and report["problems"] == []
    new = rawdata.index_tree(root, splits=["test"]).splits["test"][0].agents[0]
    new.camera_paths[1].unlink()
    assert cli.main(run) == 1
    assert "1 problems" in capsys.readouterr().out
    assert cli.main([*run, "--exclude", "none"]) == 1
    assert "9 problems" in capsys.readouterr().out


def test_tree_and_depth_leave_it_out_and_say_so(published, capsys, tmp_path):
    root, _ = published
    assert cli.main(["tree", str(root), "--splits", "test"]) == 0
    assert f"test: left out {BAD}, 8 agents at frames" in capsys.readouterr().err
    assert cli.main(["depth", str(root), "--splits", "test", "--out", str(tmp_path / "d"), "--quiet"]) == 0
    assert "28 depth maps written" in capsys.readouterr().out
    assert not (tmp_path / "d" / "test" / BAD).exists()


def test_check_tree_without_rules_calls_everything_a_problem(published):
    root, depth = published
    index = rawdata.index_tree(root, depth_root=depth, splits=["test"], exclude=None)
    assert len(checks.check_tree(index, progress=False).problems) == 8
