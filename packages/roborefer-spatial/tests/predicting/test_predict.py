import argparse
import json
import re
import threading

import msgspec
import pytest
from roborefer_spatial.predicting import predict as module
from roborefer_spatial.predicting.backends import Answer, Unavailable
from roborefer_spatial.predicting.predict import Process, predict
from roborefer_spatial.predictions import Prediction, read

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


def test_a_failed_start_leaves_nothing_and_another_backend_may_follow(samples, out):
    def broken():
        raise Unavailable("no GPU")

    with pytest.raises(Unavailable, match="no GPU"):
        predict(samples, broken, out, identity=IDENTITY)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    assert predict(samples, Double, out, identity={"backend": "other"}).answered == 7


def test_answers_beside_one_that_stops_the_run_are_kept(samples, out):
    class Mixed(Double):
        def answer(self, requests):
            return [Unavailable("quota") if r.id == samples[1].id else r.id for r in requests]

    with pytest.raises(Unavailable, match="quota"):
        go(samples, Mixed(), out)
    assert go(samples, Double(), out).kept == 2


def test_rows_reach_the_disk_batch_by_batch(samples, out, monkeypatch):
    synced = []
    real = module.os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda number: (synced.append(number), real(number))[1])
    with pytest.raises(Unavailable):
        go(samples, Double(gone_after=2), out)
    assert len(synced) >= 2  # two batches; the record beside them is written by `files`


def test_what_is_known_of_an_answer_is_kept_and_cut_ones_are_counted(samples, out, capsys):
    class Cut(Double):
        def answer(self, requests):
            return [Answer(r.id, "length", ((64, 48), (28, 28))) for r in requests]

    outcome = go(samples, Cut(), out)
    assert outcome.cut == 7
    assert read(out)[0] == Prediction(samples[0].id, samples[0].id, None, "length", ((64, 48), (28, 28)))
    assert module.report(outcome, out) == 0
    assert "warning: 7 answer(s) were cut by max_tokens" in capsys.readouterr().err


def test_depth_maps_are_used_or_refused(make_sample):

    from roborefer_spatial.predicting import backends

    plain = make_sample((1, 1))
    deep = msgspec.structs.replace(plain, id="deep", depth=["a_depth.png", "b_depth.png"])
    model = backends.options("transformers", {"model": "m"})
    with pytest.raises(ValueError, match="sample deep brings depth images, and backend transformers as chosen cannot"):
        module.asked([plain, deep], "transformers", model, "use")
    assert [s.depth for s in module.asked([plain, deep], "transformers", model, "ignore")] == [None, None]
    openai = backends.options("http", {"url": "http://h", "api": "openai", "model": "m"})
    with pytest.raises(ValueError, match="--depth ignore asks with the images alone"):
        module.asked([deep], "http", openai, "use")
    assert module.asked([deep], "http", backends.options("http", {"url": "http://h"}), "use") == [deep]
    assert [str(path) for path in module._request(deep, 0, module.profiles.load("as-built")).depth] == deep.depth


def test_a_package_that_a_backend_lacks_is_named(monkeypatch):
    from roborefer_spatial.predicting import backends
    from roborefer_spatial.predicting.backends import transformers as theirs

    def lacks(options):
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate")

    monkeypatch.setattr(theirs, "create", lacks)
    message = r"--backend transformers cannot import accelerate .*: pip install 'roborefer-spatial\[predict\]'"
    with pytest.raises(Unavailable, match=message):
        backends.create("transformers", backends.options("transformers", {"model": "m"}))


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
    message = "backend file does not take --model; it takes --answers, --id-key, --text-key, --by"
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
