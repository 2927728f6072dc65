import argparse
import json
import re
import threading

import pytest
from roborefer_spatial.predicting import predict as module
from roborefer_spatial.predicting.backends import Unavailable
from roborefer_spatial.predicting.predict import Process, predict
from roborefer_spatial.predictions import read

IDENTITY = {"backend": "double"}


class Double:
    """A backend that answers with the sample's id; `bad` ids raise, alone or with their batch."""

    def __init__(self, bad=(), gone_after=None, as_value=False):
        self.bad, self.gone_after, self.as_value, self.calls = set(bad), gone_after, as_value, []

    def answer(self, requests):
        self.calls.append([request.id for request in requests])
        if self.gone_after is not None and len(self.calls) > self.gone_after:
            raise Unavailable("server gone")
        if self.as_value:
            return [ValueError(f"bad {r.id}") if r.id in self.bad else r.id for r in requests]
        for request in requests:
            if request.id in self.bad:
                raise RuntimeError(f"bad {request.id}")
        return [request.id for request in requests]


@pytest.fixture
def samples(make_sample):
    return [make_sample((1, 1)) for _ in range(7)]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "answers.jsonl"


def go(samples, backend, out, **options):
    return predict(samples, lambda: backend, out, identity=IDENTITY, batch_size=3, **options)


def test_every_sample_in_order_with_its_images_and_prompt(samples, out):
    seen = []

    class Recorder(Double):
        def answer(self, requests):
            seen.extend(requests)
            return super().answer(requests)

    outcome = go(samples, Recorder(), out)
    assert (outcome.total, outcome.kept, outcome.answered, outcome.failed) == (7, 0, 7, 0)
    assert [(row.id, row.text) for row in read(out)] == [(s.id, s.id) for s in samples]
    assert [str(path) for path in seen[0].images] == samples[0].image
    assert seen[0].prompt == samples[0].prompt
    assert "<image>" not in seen[0].prompt


def test_a_killed_run_goes_on_where_it_was(samples, out):
    with pytest.raises(Unavailable, match="server gone"):
        go(samples, Double(gone_after=1), out)
    assert not out.exists()
    backend = Double()
    outcome = go(samples, backend, out)
    assert (outcome.kept, outcome.answered) == (3, 4)
    assert backend.calls == [[s.id for s in samples[3:6]], [samples[6].id]]
    assert [row.id for row in read(out)] == [s.id for s in samples]


def test_a_finished_run_loads_no_model(samples, out):
    go(samples, Double(), out)
    outcome = predict(samples, lambda: pytest.fail("loaded"), out, identity=IDENTITY)
    assert (outcome.kept, outcome.answered) == (7, 0)


def test_more_samples_go_on_from_fewer(samples, out):
    go(samples[:2], Double(), out)
    assert go(samples, Double(), out).kept == 2
    assert len(read(out)) == 7


@pytest.mark.parametrize("as_value", [False, True])
def test_one_bad_sample_fails_alone_and_is_tried_again(samples, out, as_value):
    bad = samples[4].id
    outcome = go(samples, Double(bad=[bad], as_value=as_value), out)
    assert (outcome.answered, outcome.failed) == (6, 1)
    kind = "ValueError" if as_value else "RuntimeError"
    assert outcome.first_error == f"{bad}: {kind}: bad {bad}"
    row = read(out)[4]
    assert (row.id, row.text, row.error) == (bad, None, f"{kind}: bad {bad}")
    backend = Double()
    assert go(samples, backend, out).failed == 0
    assert backend.calls == [[bad]]
    assert read(out)[4].text == bad


def test_too_many_errors_stop_the_run(samples, out):
    with pytest.raises(Unavailable, match=r"stopped after 3 failed samples \(--max-errors\); last: RuntimeError: bad"):
        go(samples, Double(bad=[s.id for s in samples]), out, max_errors=2)
    assert go(samples, Double(), out).kept == 0


def test_restart_asks_everything_again(samples, out):
    go(samples, Double(), out)
    assert go(samples, Double(), out, restart=True).answered == 7


def test_another_identity_is_refused(samples, out):
    go(samples, Double(), out)
    with pytest.raises(ValueError, match="backend was 'double', is 'other'"):
        predict(samples, Double, out, identity={"backend": "other"})


def test_two_processes_share_the_samples(samples, out):
    barrier, backends, outcomes = threading.Barrier(2), [Double(), Double()], {}

    def one(rank):
        outcomes[rank] = go(samples, backends[rank], out, process=Process(rank, 2, barrier.wait))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    asked = [{i for call in backend.calls for i in call} for backend in backends]
    assert (len(asked[0]), len(asked[1]), asked[0] & asked[1]) == (4, 3, set())
    assert [row.id for row in read(out)] == [s.id for s in samples]
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("option", ["batch_size", "max_errors"])
def test_zero_is_refused(samples, out, option):
    with pytest.raises(ValueError, match="--batch-size and --max-errors are at least 1"):
        predict(samples, Double, out, identity=IDENTITY, **{option: 0})


def parse(*arguments):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def test_the_command_with_answers_from_a_file(samples, make_sample, out, capsys):
    answers = make_sample.answers({s.id: "NOT_VISIBLE" for s in samples[:-1]}, "theirs.jsonl")
    arguments = [
        "--samples",
        make_sample.write(samples),
        "--out",
        out,
        "--backend",
        "file",
        "--answers",
        answers,
    ]
    assert module.run(parse(*arguments)) == 1
    captured = capsys.readouterr()
    assert "7 samples, 0 answered before, 6 now, 1 failed" in captured.out
    assert f"first {samples[-1].id}: ValueError: {answers} holds no answer for id" in captured.err
    assert module.run(parse(*arguments, "--limit", 6)) == 0
    assert json.loads((out.parent / "answers.jsonl.run.json").read_text())["backend"] == "file"


def test_options_of_another_backend_are_refused(samples, make_sample, out):
    arguments = ["--samples", make_sample.write(samples), "--out", out, "--backend", "file"]
    message = "backend file does not take --model; it takes --answers, --id-key, --text-key"
    with pytest.raises(ValueError, match=re.escape(message)):
        module.run(parse(*arguments, "--answers", out, "--model", "x"))
    with pytest.raises(ValueError, match="backend file needs --answers"):
        module.run(parse(*arguments))
    with pytest.raises(ValueError, match="--limit is 0: expected at least 1"):
        module.run(parse(*arguments, "--limit", 0))


def test_unreachable_backend_is_an_exit_status(make_sample, out, capsys):
    samples = make_sample.write([make_sample((1, 1), images=True)])
    arguments = ["--samples", samples, "--out", out, "--backend", "http"]
    assert module.run(parse(*arguments, "--url", "http://127.0.0.1:9", "--retries", 0)) == 1
    assert "error: http://127.0.0.1:9/query: cannot be reached after 1 attempt(s)" in capsys.readouterr().err


def test_several_processes_need_a_backend_that_can(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--backend http runs in one process"):
        module.this_process("http")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert module.this_process("http") == Process(wait=module.this_process("http").wait)
