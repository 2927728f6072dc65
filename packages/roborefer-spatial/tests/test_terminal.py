import pytest
from roborefer_spatial import terminal


@pytest.fixture
def parser():
    parser = terminal.Parser()
    parser.add_argument("--data-root")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("words", nargs="*")
    return parser


@pytest.mark.parametrize("given", [["--data-root", "a_b"], ["--data_root", "a_b"], ["--data_root=a_b"]])
def test_both_spellings(parser, given):
    assert parser.parse_args(given).data_root == "a_b"


def test_what_is_no_option_of_ours_stays(parser):
    args, extra = parser.parse_known_args(["--warmup_ratio=0.1", "--", "--data_root"])
    assert (args.data_root, args.words, extra) == (None, ["--data_root"], ["--warmup_ratio=0.1"])


def test_progress_in_a_log_is_a_line_a_tenth(capsys):
    for _ in terminal.progress(range(100), description="reading", unit="file"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("reading: 10 of 100 files, ")
    assert lines[-1].startswith("reading: 100 of 100 files, ")


def test_progress_by_hand_and_of_a_few(capsys):
    with terminal.progress(description="asking", unit="sample", total=2) as bar:
        bar.update()
        bar.set_postfix(loss="1", refresh=False)
        bar.update()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "asking: 1 of 2 samples",
        "asking: 2 of 2 samples",
    ]


def test_quiet_is_silent(capsys):
    assert list(terminal.progress([1, 2], description="x", unit="y", quiet=True)) == [1, 2]
    assert capsys.readouterr().err == ""
