"""The fused kernels: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from influencer_mmdet3d import InfluencerCriterion, MaskInfluencerLoss, mask_influencer_loss
from scenes import leaves, make_batch, make_masks, moved

pytest.importorskip("triton")
from influencer_mmdet3d.loss.kernels import choose, layout, slopes, sums, trial, words
from influencer_mmdet3d.loss.kernels.statistics import fused_statistics
from influencer_mmdet3d.loss.kernels.upload import upload
from influencer_mmdet3d.loss.sample import Sample
from kernel_checks import DTYPES, check_step, check_sums


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "queries, points, count", [(1, 1, 1), (5, 17, 0), (33, 131, 31), (65, 64, 3), (3, 4200, 40), (20, 96, 70)]
)
def test_sums_match_float64(fresh, device, dtype, queries, points, count):
    masks = make_masks(fresh, count, points).to(device)
    logits = [(5 * torch.randn(queries, points, generator=fresh)).to(device, dtype) for _ in range(2)]
    check_sums(logits, masks, fresh)


def test_equal_logits_do_not_underflow(device):
    """At logit 0 the factors whose logarithm is taken are least: 1/2 each."""
    logits = torch.zeros(1, layout.CHUNK, device=device)
    sums = fused_statistics([logits], torch.ones(1, layout.CHUNK, dtype=torch.bool, device=device))
    assert sums.softplus.item() == pytest.approx(layout.CHUNK * 0.6931472, rel=1e-5)


def test_extreme_logits_keep_their_gradient(device):
    logits = torch.tensor([[-300.0, -80.0, 80.0, 300.0]], device=device, requires_grad=True)
    masks = torch.tensor([[True, True, False, False]], device=device)
    sums = fused_statistics([logits], masks)
    assert sums.softplus.item() == pytest.approx(380, rel=1e-6)
    (sums.softplus.sum() - sums.logit[0, 0, 0]).backward()  # cross-entropy of [1, 1, 0, 0]
    assert logits.grad.tolist() == [[-1.0, -1.0, 1.0, 1.0]]


OPTIONS = [
    {},
    {"iter_matcher": False, "rep_weight": 5.0},
    {"loss_weight": [0.3, 2.0, 0.7, 1.5], "attr_weight": 2.0, "rep_weight": 3.0, "bg_weight": 5.0},
    {"temperature": 0.5, "soft_share": 0.9, "rep_margin": 0.95, "non_object_weight": 1.0},
    {"class_cost_weight": 2.0, "score_others": 3.0},
    {"recipe": "nms_free"},
    {"class_cost": "log_odds", "iter_matcher": False, "temperature": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("instances", [(15, 2), (14, 0)])  # more than queries, and none
def test_step_matches_the_plain_path(device, options, instances):
    batch = make_batch(instances=instances, layers=2)
    batch[1][0].sp_masks[0] = False  # an empty row
    check_step(batch, options, device)


@pytest.mark.parametrize(
    "shape",
    [
        dict(instances=(5, 0), query_masks=True),
        dict(instances=(0, 0), scores=False, layers=1),
        dict(queries=(40, 1), points=(130, 1), instances=(35, 1), layers=1),
        dict(dtype=torch.float16),
        dict(dtype=torch.bfloat16),
    ],
    ids=str,
)
def test_step_matches_at_every_shape(device, shape):
    check_step(make_batch(**shape), {"temperature": 0.2}, device)


@pytest.mark.parametrize("options", [{}, {"recipe": "nms_free"}, {"iter_matcher": False}], ids=str)
@pytest.mark.parametrize("instances", [(4, 3), (5, 0)])
def test_groups_in_one_launch_match(device, generator, options, instances):
    pred, insts = make_batch(queries=(9, 12), instances=instances, layers=2, query_masks=False)
    pred["groups"] = 3
    pred["starts"] = [torch.randint(0, n, (q,), generator=generator) for n, q in zip((60, 45), (9, 12))]
    check_step((pred, insts), {"temperature": 0.2, **options}, device)


def test_equal_costs_give_the_first_queries(device):
    """As on the CPU's plain path; where several queries cost the same, torch leaves the choice open on a GPU."""
    pred, insts = make_batch(layers=1, queries=(6,), points=(20,), instances=(4,))
    for value in leaves(pred).values():
        value.data.zero_()
    insts[0].labels_3d[:] = 3
    insts[0].sp_masks = torch.eye(4, dtype=torch.bool).repeat_interleave(5, 1)
    for impl, where in (("plain", torch.device("cpu")), ("triton", device)):
        there, targets = moved((pred, insts), where)
        loss = InfluencerCriterion(num_classes=13, impl=impl)(there, targets)["inst_loss"]
        gradient = torch.autograd.grad(loss, there["cls_preds"][0])[0]
        assert (gradient.argmin(1) == 3).tolist() == [True] * 4 + [False] * 2, impl


def test_results_repeat_bit_by_bit(device):
    pred, insts = moved(make_batch(queries=(5, 3), points=(200, 4100), layers=1), device)
    criterion = InfluencerCriterion(num_classes=13, impl="triton")
    tensors = list(leaves(pred).values())
    losses = [criterion(pred, insts)["inst_loss"] for _ in range(2)]
    first, second = (torch.autograd.grad(loss, tensors) for loss in losses)
    assert torch.equal(*losses) and all(torch.equal(a, b) for a, b in zip(first, second))


def test_tensors_that_are_not_contiguous(device):
    pred, insts = moved(make_batch(layers=1), device)
    turned = {
        key: [x.detach().t().contiguous().t().requires_grad_() for x in pred[key]]
        for key in pred
        if key != "aux_outputs"
    }
    loss = InfluencerCriterion(num_classes=13, impl="triton")
    torch.testing.assert_close(loss(turned, insts)["inst_loss"], loss(pred, insts)["inst_loss"])


def test_logits_that_moved_between_the_passes(device):
    """Hooks on saved tensors hand the backward pass other memory than the forward pass had."""
    pred, insts = moved(make_batch(layers=2), device)
    criterion, tensors = InfluencerCriterion(num_classes=13, impl="triton"), list(leaves(pred).values())
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), lambda x: x.clone()):
        loss = criterion(pred, insts)["inst_loss"]
    expected = torch.autograd.grad(criterion(pred, insts)["inst_loss"], tensors)
    for x in tensors:
        x.data.fill_(float("nan"))  # reading the forward pass's memory would show
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(loss, tensors), expected))


@pytest.mark.parametrize("points", [(200, 4100), (203, 64)])  # rows in wide pieces, and not
@pytest.mark.parametrize("moves", [False, True])
def test_gradients_together_and_apart_are_the_same(device, monkeypatch, points, moves):
    pred, insts = moved(make_batch(points=points, queries=(40, 3), layers=2), device)
    criterion, tensors = InfluencerCriterion(num_classes=13, impl="triton"), list(leaves(pred).values())
    found = {}
    for limit in (0, 1 << 30):
        monkeypatch.setattr(sums, "_TOGETHER", limit)
        pack = (lambda x: x.clone()) if moves else (lambda x: x)
        with torch.autograd.graph.saved_tensors_hooks(pack, pack):
            loss = criterion(pred, insts)["inst_loss"]
        found[limit] = torch.autograd.grad(loss, tensors)
    storages = [{x.untyped_storage().data_ptr() for x in grads if x.shape[1] in points} for grads in found.values()]
    assert list(map(len, storages)) == [4, 1]
    assert all(torch.equal(a, b) for a, b in zip(*found.values()))


def test_heads_of_several_types(device):
    """Class and score gradients are rounded together where they are of one type."""
    pred, insts = moved(make_batch(layers=2), device)
    criterion = InfluencerCriterion(num_classes=13, impl="triton")
    expected = torch.autograd.grad(criterion(pred, insts)["inst_loss"], tensors := list(leaves(pred).values()))
    for layer in (pred, *pred["aux_outputs"]):
        layer["scores"] = [x.half() for x in layer["scores"]]
    mixed = torch.autograd.grad(criterion(pred, insts)["inst_loss"], tensors)
    for got, wanted in zip(mixed, expected):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=2e-3)


def test_function_and_module_take_impl(device, generator):
    masks, logits = make_masks(generator, 4, 70).to(device), torch.randn(6, 70, generator=generator).to(device)
    fused, plain = (mask_influencer_loss(logits, masks, impl=impl) for impl in ("triton", "plain"))
    torch.testing.assert_close(fused[0], plain[0])
    assert torch.equal(fused[1].own, plain[1].own)
    torch.testing.assert_close(MaskInfluencerLoss(impl="triton")(logits, masks), MaskInfluencerLoss()(logits, masks))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["masks", "cls_preds", "scores"])
def test_not_finite_names_layer_and_sample(device, bad, key):
    pred, insts = make_batch(layers=2)
    pred["aux_outputs"][0][key][1].data[2, 0] = bad
    pred, insts = moved((pred, insts), device)
    criterion = InfluencerCriterion(num_classes=13, impl="triton")
    with pytest.raises(
        FloatingPointError, match=rf"aux_outputs\[0\], sample 1: {key} holds values that are not finite"
    ):
        assert criterion(pred, insts)["inst_loss"].isnan()
        criterion.check_values()


def test_label_out_of_range(device):
    pred, insts = make_batch()
    insts[1].labels_3d[1] = 13
    criterion = InfluencerCriterion(num_classes=13, impl="triton")
    with pytest.raises(ValueError, match=r"insts\[1\].labels_3d: instance 1 has label 13, expected 0..12"):
        criterion(*moved((pred, insts), device))
        criterion.check_values()


def test_diagnostics_are_what_the_criterion_logs():
    pred, insts = make_batch(layers=1)
    logged = [key for key in InfluencerCriterion(num_classes=13, impl="plain")(pred, insts) if "loss" not in key]
    assert [f"inst_{name}" for name in slopes.DIAGNOSTICS] == logged


def test_words_reach_the_device(device):
    values = [1, 0, -5, 2**31, 2**40 + 3, 2**62, 16]
    assert words.write_words(values, device).tolist() == values == upload(values, device).tolist()


def empty_sample(queries, points, instances, device, layers=1):
    targets = torch.zeros(instances, points, dtype=torch.bool, device=device)
    labels = torch.zeros(instances, dtype=torch.long, device=device)
    return Sample([torch.zeros(queries, points, device=device)] * layers, targets, labels)


def test_layout_counts_rows_and_columns(device):
    sizes = ((3, 32, 15), (2, layout.CHUNK + 16, 16))
    batch = [empty_sample(*size, device, layers=2) for size in sizes]
    found = layout.lay_out(batch)
    assert (found.rows, found.parts, found.columns, found.batch, found.layers) == (10, 3 * 2 + 2 * 2 * 2, 32, 2, 2)
    assert found.aligned and not layout.lay_out([empty_sample(3, 33, 15, device)]).aligned
    assert layout.lay_out(batch[:1]).columns == 16
    assert found.samples[1, : layout.FIELDS.index("MASKS")].tolist() == [2, layout.CHUNK + 16, 16, 6, 32, 6, 1]


def test_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter is more lenient than the compiler, which needs no GPU."""
    script = Path(__file__).parents[1] / "compile_kernels.py"
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    env |= {
        "PYTHONPATH": os.pathsep.join([str(script.parent), *filter(None, sys.path)]),
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, str(script), "fp32", "9.0"], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    names = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("9.0")}
    assert names == {
        "_write", "_segments", "_forward", "costs", "assign", "overlaps", "slopes", "finish", "_backward"
    }  # fmt: skip


def test_auto_on_the_cpu_is_plain_and_says_so(caplog):
    choose._say_once.cache_clear()
    with caplog.at_level("INFO"):
        assert not choose.use_triton("auto", [[torch.zeros(1)]], 1)
        assert not choose.use_triton("auto", [[torch.zeros(1)]], 1)
    (record,) = caplog.records
    assert record.message == "impl='auto' takes 'plain': the tensors are on cpu, the kernels need an NVIDIA GPU"


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_auto_takes_kernels_only_where_they_agree(monkeypatch, passed, kept):
    said, verdict = [], trial.Verdict(passed, "differ from plain torch in the case 'x': y")
    choose._say_once.cache_clear()
    monkeypatch.setattr(choose, "_trusted", {})
    monkeypatch.setattr(choose, "_machine_obstacle", lambda device, interpreter: None)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(trial, "recall", lambda device: verdict if kept else None)
    monkeypatch.setattr(trial, "verdict", lambda device: verdict)
    for _ in range(2):
        assert choose.use_triton("auto", [[torch.zeros(1)]], 1, said.append) == passed
    if not kept:
        assert said.pop(0) == "impl='auto' tries the kernels against plain torch on a GPU, once: about a minute"
    (line,) = said
    wrong = "'plain': on this GPU the kernels differ from plain torch in the case 'x': y; `influencer-mmdet3d doctor`"
    assert line.startswith(f"impl='auto' takes {chr(39) + 'triton' + chr(39) if passed else wrong}")
    assert choose.use_triton("triton", [[torch.zeros(1)]], 1)


def test_a_capture_makes_no_trial(monkeypatch):
    monkeypatch.setattr(choose, "_trusted", {})
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(trial, "recall", lambda device: None)
    assert "take a step before" in choose._doubt(torch.device("cuda", 0), print)
    assert not choose._trusted


@pytest.mark.parametrize(
    "heads, instances, message",
    [
        ([[torch.float64]], 1, r"a head is of type \['torch.float64'\]"),
        ([[torch.float32, torch.float16]], 1, "a head is of type"),
        ([[torch.float32]], choose.MAX_INSTANCES + 1, "a scene has 256 instances, the kernels hold 255"),
    ],
)
def test_triton_says_why_not(device, heads, instances, message):
    tensors = [[torch.zeros(1, dtype=dtype, device=device) for dtype in head] for head in heads]
    with pytest.raises(ValueError, match=f"impl='triton' is not possible here: {message}"):
        choose.use_triton("triton", tensors, instances)
    assert not choose.use_triton("auto", tensors, instances)


def test_without_triton(monkeypatch):
    choose._machine_obstacle.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the package triton is not installed. Use impl='auto' or impl='plain'"):
        choose.use_triton("triton", [[torch.zeros(1)]], 1)
    assert not choose.use_triton("auto", [[torch.zeros(1)]], 1)
    choose._machine_obstacle.cache_clear()


def test_the_package_needs_no_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import influencer_mmdet3d as i; i.InfluencerCriterion(num_classes=2)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_wrong_impl():
    with pytest.raises(ValueError, match=r"impl must be one of \('auto', 'plain', 'triton'\), got 'cuda'"):
        MaskInfluencerLoss(impl="cuda")
