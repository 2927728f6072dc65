"""Vehicle identity on the real MapAnything."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf


def settings(compose_tiny, **changes):
    return {**OmegaConf.to_container(compose_tiny().model.model_config, resolve=True), **changes}


@pytest.fixture(scope="module")
def plain(compose_tiny):
    from mapanything.models import model_factory

    torch.manual_seed(5)
    return model_factory("mapanything", **settings(compose_tiny)).eval()


@pytest.fixture(scope="module")
def checkpoint(plain, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save({"model": plain.state_dict()}, path)
    return path


@pytest.fixture
def ours(compose_tiny, checkpoint):
    """Return a function that builds our model with the plain model's weights."""
    from mapanything.models import model_factory

    def build(**changes):
        arguments = settings(compose_tiny, pretrained_checkpoint_path=str(checkpoint), **changes)
        return model_factory("opv2v_mapanything", **arguments).eval()

    return build


@pytest.fixture(scope="module")
def batch(datasets, small_town):
    dataset = datasets.OPV2VCoopDataset_train(
        ROOT=small_town.root,
        depth_root=small_town.depth_root,
        num_views=4,
        min_agents=3,
        resolution=(56, 42),
        seed=1,
        transform="imgnorm",
        data_norm_type="croco",
    )
    views = torch.utils.data.default_collate([dataset[0], dataset[1]])
    assert {1, 2} <= {number for view in views for number in view["agent_index"].tolist()}
    return views


def same(a, b):
    return all(torch.equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x)


@torch.no_grad()
def test_id_0_is_the_old_behaviour_bit_for_bit(plain, ours, batch):
    model = ours()
    expected = plain(batch)
    assert same(model(batch), expected)  # before training: with any ids
    model.agent_embedding.normal_()
    zeros = [{**view, "agent_index": torch.zeros(2, dtype=torch.int64)} for view in batch]
    without = [{key: value for key, value in view.items() if key != "agent_index"} for view in batch]
    assert same(model(zeros), expected) and same(model(without), expected)
    assert not any(torch.equal(a["pts3d"], b["pts3d"]) for a, b in zip(model(batch), expected))


@torch.no_grad()
def test_features_of_half_precision_stay_so(plain, ours, batch):
    """The heads of the host refuse bfloat16 on a CPU; the encoder does not."""
    model = ours()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, _ = plain._encode_n_views(batch)
        assert all(torch.equal(a, b) for a, b in zip(model._encode_n_views(batch)[0], expected, strict=True))
        model.agent_embedding.normal_()
        marked, _ = model._encode_n_views(batch)
    assert marked[1].dtype == expected[1].dtype and not torch.equal(marked[1], expected[1])


@torch.no_grad()
def test_infer_hears_of_the_ids(plain, ours, batch):
    model = ours()
    model.agent_embedding.normal_()
    options = {"use_amp": False, "apply_mask": False, "mask_edges": False}
    views = [{"img": view["img"], "data_norm_type": view["data_norm_type"]} for view in batch]
    with_ids = model.infer([{**v, "agent_index": b["agent_index"]} for v, b in zip(views, batch)], **options)
    expected = model(batch)
    assert all(torch.allclose(a["pts3d"], b["pts3d"], rtol=1e-4, atol=1e-4) for a, b in zip(with_ids, expected))
    assert same(model.infer(views, **options), plain.infer(views, **options))


def test_the_optimizer_gets_what_is_not_frozen(ours):
    from mapanything.utils.train_tools import get_parameter_groups

    def trained(freeze):
        model = ours(freeze=freeze)
        groups, *_ = get_parameter_groups(model, 1e-4, 0.05, submodule_configs={"encoder": {"lr": 1e-6}})
        ids = {id(parameter) for group in groups for parameter in group["params"]}
        return {name for name, parameter in model.named_parameters() if id(parameter) in ids}

    everything, no_encoder = trained("nothing"), trained("encoder")
    assert trained("everything_else") == {"agent_embedding"}
    assert {name for name in everything if not name.startswith("encoder.")} == no_encoder
    assert any(name.startswith("encoder.") for name in everything)


def test_published_weights_load(compose_tiny, plain, tmp_path):
    """The form of the Hugging Face hub: safetensors and the arguments as JSON."""
    from mapanything_opv2v.host.models.identity import OPV2VMapAnything
    from safetensors.torch import save_model

    save_model(plain, str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps(settings(compose_tiny)))
    for strict in (False, True):
        model = OPV2VMapAnything.from_pretrained(tmp_path, strict=strict, max_agents=4)
        state = model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
        assert model.agent_embedding.shape == (3, 64) and not model.agent_embedding.any()


def test_it_is_described_by_what_built_it(ours):
    """The host writes these arguments beside published weights."""
    arguments = ours(max_agents=5, freeze="encoder").class_init_args
    assert arguments["max_agents"] == 5 and arguments["freeze"] == "encoder"
    assert arguments["pretrained_checkpoint_path"].endswith("plain.pth") and "encoder_config" in arguments


def test_a_real_run_trains_the_vectors_only(train, tmp_path, checkpoint, plain):
    run_dir = tmp_path / "run"
    done = train(
        "opv2v_cyl_coop_ft",
        run_dir,
        "model=opv2v_mapanything",
        "model.model_config.max_agents=5",
        "model.model_config.freeze=everything_else",
        f"model.model_config.pretrained_checkpoint_path={checkpoint}",
        'dataset.resolution_train="(112,28)"',
        "dataset.opv2v.train.samples_per_epoch=4",
        "dataset.opv2v.val.max_scenes=2",
        "train_params.max_num_of_imgs_per_gpu=4",
        "train_params.warmup_epochs=0.25",
        "train_params.epochs=1",
        "loss=opv2v_rel_pose_loss",
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    state = torch.load(run_dir / "checkpoint-last.pth", weights_only=False)["model"]
    before = plain.state_dict()
    assert set(state) == {*before, "agent_embedding"}
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert state["agent_embedding"].shape == (4, 64) and state["agent_embedding"].any()
