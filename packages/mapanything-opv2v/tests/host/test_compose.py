"""Every config composes with the host's own configs, as its entry point would do it."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

NAMES = ("opv2v_ft", "opv2v_coop_ft", "opv2v_cyl_coop_ft", "opv2v_cyl_coop_ft_5gpu", "opv2v_ft_smoke")


@pytest.fixture(scope="module")
def composed(host_root, small_town):
    import mapanything.datasets as host

    patch = pytest.MonkeyPatch()
    patch.setenv("OPV2V_ROOT", str(small_town.root))
    patch.setenv("OPV2V_DEPTH_ROOT", str(small_town.depth_root))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(host_root / "configs"), version_base=None):
        yield lambda *overrides: (compose("train", overrides=["machine=opv2v", *overrides]), vars(host))
    patch.undo()


def build(text, namespace):
    return eval(text, namespace)


@pytest.mark.parametrize("own_schedule", [True, False], ids=["own train_params", "the host's train_params"])
@pytest.mark.parametrize("name", NAMES)
def test_a_config_composes_and_builds(composed, name, own_schedule):
    schedule = [f"train_params={name}"] if own_schedule else []
    config, namespace = composed(f"dataset={name}", "model=mapanything", "loss=overall_loss", *schedule)
    params = config.train_params
    assert 2 * (params.max_num_of_imgs_per_gpu // config.dataset.num_views) >= 1
    assert params.warmup_epochs < params.epochs
    validation = build(config.dataset.test_dataset, namespace)
    assert validation.split == "validate" and validation.data_norm_type == "dinov2"
    train = build(config.dataset.train_dataset, namespace)
    assert train.dataset.split == "train" and train.dataset.strict
    sampler = train.make_sampler(max_num_of_images_per_gpu=params.max_num_of_imgs_per_gpu, use_dynamic_sampler=True)
    assert len(sampler) > 0


def test_an_epoch_without_a_step_is_refused(composed):
    config, namespace = composed(
        "dataset=opv2v_ft_smoke", "model=mapanything", "dataset.opv2v.train.samples_per_epoch=23"
    )
    with pytest.raises(ValueError, match="an epoch of 23 samples has no full batch"):
        build(config.dataset.train_dataset, namespace).make_sampler(max_num_of_images_per_gpu=48)


@pytest.mark.parametrize(("name", "gpus"), [("opv2v_cyl_coop_ft", 4), ("opv2v_cyl_coop_ft_5gpu", 5)])
def test_the_hosts_sampler_makes_5000_steps(composed, name, gpus):
    config, namespace = composed(f"dataset={name}", f"train_params={name}", "model=mapanything")
    sampler = build(config.dataset.train_dataset, namespace).make_sampler(
        world_size=gpus, max_num_of_images_per_gpu=config.train_params.max_num_of_imgs_per_gpu
    )
    assert len(sampler) == 5000
