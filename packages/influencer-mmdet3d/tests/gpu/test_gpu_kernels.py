"""What only a GPU can show of the fused kernels: full sizes, memory, no waiting, capture. From the repository's root:

T=packages/influencer-mmdet3d/tests; pytest -o pythonpath=$T $T/gpu $T/loss/test_kernels.py $T/adapter/test_values.py
"""

import pytest
import torch
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.loss.kernels import choose, trial
from kernel_checks import DTYPES, check_step, check_sums
from scenes import leaves, make_batch, make_masks, moved

GPU = torch.device("cuda")
S3DIS = dict(spread=2.0, layers=4, queries=(400, 400), points=(80_000, 80_000), instances=(30, 30))
SCANNET = dict(spread=2.0, layers=7, queries=(400,) * 4, points=(3_000,) * 4, instances=(30,) * 4)
# Sizes of real scenes share no factor with the kernels' blocks.
RAGGED = dict(spread=2.0, layers=3, queries=(391, 1, 257), points=(79_999, 1, 3_001), instances=(45, 1, 0))


def criterion(**options):
    return InfluencerCriterion(num_classes=13, impl="triton", **options)


def gradients(pred, insts, loss):
    return torch.autograd.grad(loss(pred, insts)["inst_loss"], list(leaves(pred).values()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries, points, count", [(64, 120_000, 30), (37, 119_993, 100), (400, 4_096, 31)])
def test_sums_match_float64_at_full_size(fresh, dtype, queries, points, count):
    masks = make_masks(fresh, count, points).to(GPU)
    logits = [(5 * torch.randn(queries, points, generator=fresh)).to(GPU, dtype) for _ in range(2)]
    check_sums(logits, masks, fresh)


def test_one_instance_over_all_points(fresh):
    """The longest chain of additions in one sum."""
    masks = torch.ones(1, 120_000, dtype=torch.bool, device=GPU)
    check_sums([(2 + torch.randn(16, 120_000, generator=fresh)).to(GPU)], masks, fresh)


@pytest.mark.parametrize("shape", [S3DIS, SCANNET, RAGGED], ids=["S3DIS", "ScanNet", "ragged"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_step_matches_the_plain_path_at_full_size(shape, dtype):
    check_step(make_batch(dtype=dtype, **shape), {}, GPU)


@pytest.mark.parametrize("options", [{"iter_matcher": False}, {"temperature": 0.5, "rep_weight": 5.0}], ids=str)
def test_options_at_full_size(options):
    check_step(make_batch(query_masks=True, **SCANNET), options, GPU)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [dict(S3DIS, queries=(1200, 1200)), dict(SCANNET, queries=(2400,) * 4)], ids=["3", "6"]
)
def test_groups_in_one_launch_match_the_plain_path(shape, dtype):
    """Three groups of 400 queries, and six."""
    pred, insts = make_batch(dtype=dtype, **shape)
    pred["groups"] = shape["queries"][0] // 400
    pred["starts"] = [torch.arange(shape["queries"][0]) % n for n in shape["points"]]
    check_step((pred, insts), {"recipe": "nms_free"}, GPU)


def test_groups_need_no_memory_of_their_own():
    """Beside logits and gradients, as without groups: nothing of their size is copied."""
    pred, insts = moved(make_batch(dtype=torch.float16, **dict(S3DIS, queries=(1200, 1200))), GPU)
    pred["groups"] = 3
    loss, tensors = criterion(), list(leaves(pred).values())
    gradients(pred, insts, loss)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    gradients(pred, insts, loss)
    extra = torch.cuda.max_memory_allocated() - before - sum(x.nbytes for x in tensors)
    assert extra <= 0.05 * sum(x.nbytes for name, x in leaves(pred).items() if ".masks." in name)


def test_results_repeat_bit_by_bit_at_full_size():
    pred, insts = moved(make_batch(**RAGGED), GPU)
    first, second = (gradients(pred, insts, criterion()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_beside_logits_and_gradients(dtype):
    pred, insts = moved(make_batch(dtype=dtype, **S3DIS), GPU)
    loss, tensors = criterion(), list(leaves(pred).values())
    gradients(pred, insts, loss)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    gradients(pred, insts, loss)
    extra = torch.cuda.max_memory_allocated() - before - sum(x.nbytes for x in tensors)
    assert extra <= 0.05 * sum(x.nbytes for name, x in leaves(pred).items() if ".masks." in name)


def test_nothing_waits_for_the_device():
    pred, insts = moved(make_batch(**SCANNET), GPU)
    loss = criterion()
    for _ in range(3):
        gradients(pred, insts, loss)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        with torch.profiler.record_function("the step"):
            result = gradients(pred, insts, loss)
        torch.cuda.synchronize()
    events = profile.events()
    (step,) = (e for e in events if e.name == "the step" and e.device_type == torch.autograd.DeviceType.CPU)
    inside = [e for e in events if step.time_range.start <= e.time_range.start <= step.time_range.end]
    calls = [e.name for e in inside if e.device_type == torch.autograd.DeviceType.CPU]
    assert any("aunchKernel" in name for name in calls), f"the profiler saw no launch: {sorted(set(calls))}"
    waits = [name for name in calls if "Synchronize" in name or name == "cudaMemcpy" or name == "aten::item"]
    copies = [e.name for e in events if "DtoH" in e.name]
    assert not waits and not copies, f"{waits} {copies}"
    launches = [name for name in calls if "aunchKernel" in name]
    assert len(launches) <= 24, f"{len(launches)} launches"
    assert all(x.isfinite().all() for x in result)


def test_torch_sees_no_synchronisation():
    pred, insts = moved(make_batch(**SCANNET), GPU)
    loss = criterion()
    gradients(pred, insts, loss)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(pred, insts, loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_captured_step_follows_its_inputs():
    pred, insts = moved(make_batch(**SCANNET), GPU)
    loss, tensors = criterion(), list(leaves(pred).values())
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            gradients(pred, insts, loss)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(pred, insts)["inst_loss"]
        captured = torch.autograd.grad(value, tensors)
    for seed in (1, 2):
        other, targets = moved(make_batch(seed, **SCANNET), GPU)
        with torch.no_grad():
            for x, y in zip(tensors, leaves(other).values()):
                x.copy_(y)
            for inst, target in zip(insts, targets):
                inst.sp_masks.copy_(target.sp_masks)
                inst.labels_3d.copy_(target.labels_3d)
        graph.replay()
        torch.testing.assert_close(value, loss(other, targets)["inst_loss"], rtol=0, atol=0)
        assert all(torch.equal(a, b) for a, b in zip(captured, gradients(other, targets, loss)))


def test_an_error_comes_with_a_later_step():
    pred, insts = moved(make_batch(), GPU)
    loss = criterion()
    pred["masks"][1].data[0, 0] = float("nan")
    assert loss(pred, insts)["inst_loss"].isnan()
    torch.cuda.synchronize()
    with pytest.raises(FloatingPointError, match="the last layer, sample 1: masks"):
        loss(pred, insts)


def test_auto_tries_the_kernels_and_takes_them(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choose, "_trusted", {})
    pred, insts = moved(make_batch(), GPU)
    auto, fused = InfluencerCriterion(num_classes=13), criterion()
    assert torch.equal(auto(pred, insts)["inst_loss"], fused(pred, insts)["inst_loss"])
    assert choose._trusted == {GPU: None} or choose._trusted == {torch.device("cuda", 0): None}
    found = trial.recall(torch.device("cuda", 0))
    assert found.passed and found.reason == "agree with plain torch in 10 cases"


def test_steps_in_flight_do_not_disturb_each_other():
    """Tables and checks of a step stay valid while others are under way."""
    batches = [moved(make_batch(seed, **SCANNET), GPU) for seed in range(4)]
    loss = criterion()
    alone = [gradients(*batch, loss) for batch in batches]
    torch.cuda.synchronize()
    together = [gradients(*batch, loss) for batch in batches for _ in range(5)]
    for number, result in enumerate(together):
        assert all(torch.equal(a, b) for a, b in zip(result, alone[number // 5]))
