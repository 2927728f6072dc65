"""The model with agent embeddings, on the double of the host's model."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def models(double_host):
    """The host's `mapanything.models` with our model in it."""
    import mapanything.models
    from mapanything_opv2v.host.register import register

    register()
    return mapanything.models


def build(models, name="opv2v_mapanything", **options):
    torch.manual_seed(1)
    return models.model_factory(name, name=name, **options)


def batch_of(*ids):
    generator = torch.Generator().manual_seed(0)
    return [{"img": torch.rand(2, 3, 14, 28, generator=generator), "agent_index": torch.tensor(item)} for item in ids]


def features(model, batch):
    return model._encode_n_views(batch)[0]


def test_before_training_every_view_is_encoded_as_the_host_does(models):
    plain, ours = build(models, "mapanything"), build(models)
    batch = batch_of([0, 0], [1, 7])
    assert all(torch.equal(a, b) for a, b in zip(features(plain, batch), features(ours, batch), strict=True))


def test_vectors_are_added_by_hand(models):
    plain, ours = build(models, "mapanything"), build(models, max_agents=3)
    with torch.no_grad():
        ours.agent_embedding[:] = torch.tensor([[1.0, 2, 3, 4], [10, 20, 30, 40]])
    batch = batch_of([0, 1], [2, 0])
    first, second = (b - a for a, b in zip(features(plain, batch), features(ours, batch)))
    assert not first[0].any() and not second[1].any()
    assert torch.allclose(first[1, :, 0, 1], torch.tensor([1.0, 2, 3, 4]), atol=1e-5)
    assert torch.allclose(second[0, :, 0, 0], torch.tensor([10.0, 20, 30, 40]), atol=1e-5)


def test_the_main_agent_keeps_every_bit(models, monkeypatch):
    """Negative zeros too: nothing is added, not even zero."""
    ours = build(models)
    ours.agent_embedding.data.normal_()
    monkeypatch.setattr(ours.encoder.conv, "forward", lambda images: torch.full((len(images), 4, 1, 2), -0.0))
    (marked,) = features(ours, batch_of([0, 1]))
    assert torch.signbit(marked[0]).all() and marked[1].any()


def test_views_without_an_id_are_the_main_agents(models):
    ours = build(models)
    ours.agent_embedding.data.normal_()
    batch = batch_of([0, 0], [0, 0])
    without = [{"img": view["img"]} for view in batch]
    assert all(torch.equal(a, b) for a, b in zip(features(ours, batch), features(ours, without)))


def test_weights_of_the_plain_model_load(models, tmp_path):
    plain = build(models, "mapanything")
    torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
    ours = build(models, pretrained_checkpoint_path=tmp_path / "plain.pth")
    assert torch.equal(ours.head.weight, plain.head.weight) and not ours.agent_embedding.any()
    ours.agent_embedding.data.fill_(3)
    state = plain.state_dict()
    result = ours.load_state_dict(state)
    assert not result.missing_keys and (ours.agent_embedding == 3).all() and "agent_embedding" not in state


def test_its_own_weights_load(models, tmp_path):
    first = build(models)
    first.agent_embedding.data.fill_(2)
    torch.save({"model": first.state_dict()}, tmp_path / "ours.pth")
    second = build(models, pretrained_checkpoint_path=tmp_path / "ours.pth")
    assert (second.agent_embedding == 2).all()
    assert second.class_init_args["pretrained_checkpoint_path"] == tmp_path / "ours.pth"
    assert second.class_init_args["max_agents"] == 8 and second.class_init_args["freeze"] == "nothing"
    with pytest.raises(RuntimeError, match="agent_embedding"):
        build(models, max_agents=5, pretrained_checkpoint_path=tmp_path / "ours.pth")


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("nothing", {"agent_embedding", "encoder.conv.weight", "encoder.conv.bias", "head.weight", "head.bias"}),
        ("encoder", {"agent_embedding", "head.weight", "head.bias"}),
        ("everything_else", {"agent_embedding"}),
    ],
)
def test_a_step_trains_what_it_should(models, freeze, trained):
    model = build(models, freeze=freeze)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(batch_of([0, 0], [1, 3]))[0]["pts3d"].sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == trained
    used = model.agent_embedding.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [True, False, True, False, False, False, False]


def test_infer_takes_ids(models):
    ours = build(models)
    ours.agent_embedding.data.normal_()
    batch = batch_of([0, 0], [2, 2])
    expected = ours(batch)
    views = [{"img": view["img"], "data_norm_type": ["identity"]} for view in batch]
    with_ids = ours.infer([{**view, "agent_index": number} for view, number in zip(views, (0, 2))])
    as_tensor = ours.infer([{**view, "agent_index": item["agent_index"]} for view, item in zip(views, batch)])
    assert torch.equal(with_ids[0]["pts3d"], expected[0]["pts3d"]) and "agent_index" not in views[0]
    assert torch.equal(as_tensor[0]["pts3d"], expected[0]["pts3d"])
    assert not torch.equal(ours.infer(views)[0]["pts3d"], expected[0]["pts3d"])
    assert torch.equal(ours(batch)[0]["pts3d"], expected[0]["pts3d"])  # ids of infer are forgotten


def test_what_it_refuses(models):
    for value in (1, True, 2.0, "8"):
        with pytest.raises(ValueError, match="max_agents=.*expected an integer of at least 2"):
            build(models, max_agents=value)
    with pytest.raises(ValueError, match="freeze='all', expected one of nothing, encoder, everything_else"):
        build(models, freeze="all")
    for ids in ([0, 8], [0, -1]):
        with pytest.raises(ValueError, match=r"agent_index \[.*known are 0 to 7; raise .*max_agents \(now 8\)"):
            build(models)(batch_of(ids))
