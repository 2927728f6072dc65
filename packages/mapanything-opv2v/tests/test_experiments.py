"""The experiments, composed on a double of the host's configs: consistent, buildable, linked to each other."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import mapanything_opv2v
import pytest
from hydra import compose
from mapanything_opv2v.checks.run_config import run_problems
from mapanything_opv2v.train import build_parser
from test_configs import HOST

EXPERIMENTS = ("opv2v_stage1", "opv2v_stage2", "opv2v_stage3", "opv2v_cylindrical", "opv2v_start")
FOLDER = Path(mapanything_opv2v.__file__).parent / "configs" / "experiment"
# What the experiments need of the host beside what the dataset configs do.
MORE = {
    "train.yaml": """
        defaults:
            [{machine: default}, {model: default}, {dataset: default}, {loss: default}, {train_params: default}, _self_]
        output_dir: "${hydra:run.dir}"
        root_experiments_dir: ${machine.root_experiments_dir}
    """,
    "model/default.yaml": """
        data_norm_type: identity
        pretrained: null
        model_config: {pretrained_checkpoint_path: null}
    """,
    "model/mapanything.yaml": """
        defaults: [default]
        encoder: {gradient_checkpointing: false}
        info_sharing: {module_args: {gradient_checkpointing: false}}
        pred_head: {gradient_checkpointing: false}
    """,
    "loss/default.yaml": "train_criterion: ''",
}


@pytest.fixture
def composed(host_configs):
    """Return a function that composes train.yaml of the double with overrides, our plugin being active."""
    with host_configs({**HOST, **MORE}):

        def get(name, *overrides):
            return compose("train", overrides=[f"+experiment={name}", *overrides], return_hydra_config=True)

        yield get


def build(text):
    """Evaluate a dataset string where the host does."""
    return eval(text, vars(sys.modules["mapanything.datasets"]))


def test_every_experiment_is_listed():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*EXPERIMENTS, "opv2v_shared"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_consistent(composed, name):
    config = composed(name)
    params, submodules = config.train_params, config.train_params.get("submodule_configs") or {}
    warmups = {"train": params.warmup_epochs, **{key: value.warmup_epochs for key, value in submodules.items()}}
    problems = run_problems(
        test_dataset=config.dataset.test_dataset,
        num_views=config.dataset.num_views,
        max_num_of_imgs_per_gpu=params.max_num_of_imgs_per_gpu,
        epochs=params.epochs,
        warmups=warmups,
        weights={},
        model_str=str(config.model.get("model_str")),
        train_criterion=str(config.loss.train_criterion),
    )
    assert problems == []  # the test batch, the warm-up, the loaders' keys, the validation's split
    assert 0 < params.warmup_epochs < params.epochs
    assert config.machine.opv2v_root and config.hydra.run.dir == f"experiments/opv2v/{config.experiment_name}"
    assert "mapanything_opv2v.host.training.config_callback.RunCheck" in str(config.hydra.callbacks)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_builds_sets_of_different_splits(composed, name):
    config = composed(name)
    train, validation = build(config.dataset.train_dataset), build(config.dataset.test_dataset)
    assert type(train).__name__ == "FixedSteps" and train.dataset.split == "train"
    assert validation.split == "validate" and type(validation).only_split == "validate"
    assert type(validation).__name__ != type(train.dataset).__name__


STEPS = {
    "opv2v_stage1": 2500,
    "opv2v_stage2": 5000,
    "opv2v_stage3": 1666,
    "opv2v_cylindrical": 5000,
    "opv2v_start": 2500,
}


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("gpus", [1, 4, 5])
def test_steps_are_those_of_the_comment_on_any_number_of_gpus(composed, name, gpus):
    config = composed(name)
    train = build(config.dataset.train_dataset)
    budget = config.train_params.max_num_of_imgs_per_gpu
    assert len(train.make_sampler(max_num_of_images_per_gpu=budget, world_size=gpus)) == STEPS[name]
    assert f"= {STEPS[name]} steps" in (FOLDER / f"{name}.yaml").read_text()


def test_steps_and_sets_can_be_set_on_the_command_line(composed):
    for override, steps in (("dataset.steps_per_epoch=7", 7), ("dataset.max_sets_per_epoch=480", 10)):
        train = build(composed("opv2v_stage1", override).dataset.train_dataset)
        assert len(train.make_sampler(max_num_of_images_per_gpu=24)) == steps  # 12 sets of 2 views


def test_views_of_the_stages(composed):
    views = {name: build(composed(name).dataset.train_dataset).num_views for name in EXPERIMENTS}
    assert views == {
        "opv2v_stage1": [2, 3, 4],
        "opv2v_stage2": 8,  # fixed
        "opv2v_stage3": [4, 5, 6, 7, 8, 9, 10, 11, 12],  # variable
        "opv2v_cylindrical": [2, 3, 4],
        "opv2v_start": 2,
    }


NOTES = Path(__file__).parents[3] / "docs/mapanything-opv2v/notes-commands.md"


def test_the_stages_have_the_values_of_the_research_notes(composed):
    """The table of the docs page, which repeats the notes, against what is composed."""
    table = NOTES.read_text().partition("## Values of the stages")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\d+) \| (.+?) \| (.+?) \|$", table, flags=re.M)
    assert [name for name, *_ in rows] == ["opv2v_stage1", "opv2v_stage2", "opv2v_stage3"]
    assert [lr for _, lr, *_ in rows] == ["5e-05", "3e-05", "2e-05"]
    for name, lr, images, views, _ in rows:
        config = composed(name)
        params = config.train_params
        assert (params.lr, params.max_num_of_imgs_per_gpu) == (float(lr), int(images))
        assert params.min_lr == pytest.approx(params.lr / 100)
        encoder = params.submodule_configs.encoder
        assert (encoder.lr, encoder.min_lr) == pytest.approx((params.lr / 20, params.min_lr / 20))
        counts = build(config.dataset.train_dataset).num_views
        low, high = (counts, counts) if isinstance(counts, int) else (counts[0], counts[-1])
        assert views == (str(low) if low == high else f"{low} to {high}")
        assert params.max_num_of_imgs_per_gpu // build(config.dataset.test_dataset).num_views >= 1


def test_stage_3_takes_one_vehicle_and_up_to_ten_or_twelve_views(composed):
    ours = build(composed("opv2v_stage3").dataset.train_dataset).dataset
    assert ours.options.min_agents == 1 and ours.num_views[-1] == 12
    theirs = build(composed("opv2v_stage3", "dataset.coop_max_num_views=10").dataset.train_dataset)
    assert theirs.num_views == [4, 5, 6, 7, 8, 9, 10]
    assert build(composed("opv2v_stage2").dataset.train_dataset).dataset.options.min_agents == 2


def test_the_cylindrical_configs_do_not_call_themselves_stage_3(composed):
    configs = FOLDER.parent
    for path in configs.rglob("*cyl*.yaml"):
        for line in path.read_text().splitlines():
            assert "tage 3" not in line or "not stage 3" in line or line.startswith("# stage 3, which"), (path, line)


def test_gradient_checkpointing_is_stage_3s(composed):
    for name in EXPERIMENTS:
        model = composed(name).model
        flags = {
            model.encoder.gradient_checkpointing,
            model.info_sharing.module_args.gradient_checkpointing,
            model.pred_head.gradient_checkpointing,
        }
        assert flags == {name == "opv2v_stage3"}


def test_each_stage_starts_from_the_one_before(composed):
    first = composed("opv2v_stage1").model
    assert first.pretrained is None
    assert first.model_config.pretrained_checkpoint_path == "checkpoints/facebook_map-anything.pth"
    before = {"opv2v_stage2": "opv2v_stage1", "opv2v_stage3": "opv2v_stage2", "opv2v_cylindrical": "opv2v_stage2"}
    for name, source in before.items():
        model, folder = composed(name).model, composed(source).hydra.run.dir
        assert model.pretrained == f"{folder}/checkpoint-best.pth"
        assert model.model_config.pretrained_checkpoint_path is None


def test_a_start_begins_with_near_vehicles_and_turned_copies(composed):
    config = composed("opv2v_start")
    dataset = build(config.dataset.train_dataset).dataset
    assert type(dataset).__name__ == "OPV2VStartDataset" and dataset.panorama_roll
    assert dataset.options.main_agent_policy == "random"
    found = []
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        found.append(dataset.schedule())
    assert found == [(8.0, 0.4), (40.0, 0.0)]
    validation = build(config.dataset.test_dataset)
    assert validation.schedule() == (float("inf"), 0.0) and not validation.panorama_roll
    assert config.model.model_str == "opv2v_start" and config.model.pretrained is None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_slurm_job_has_a_task_for_each_gpu_and_one_folder(composed, name):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    hydra = composed(name, "+cluster=opv2v_slurm", "hydra.launcher.gpus_per_node=8").hydra
    assert hydra.mode.name == "MULTIRUN" and hydra.launcher._target_.endswith("SlurmLauncher")
    assert hydra.launcher.tasks_per_node == hydra.launcher.gpus_per_node == 8
    assert (hydra.sweep.dir, hydra.sweep.subdir) == (hydra.run.dir, ".")
    assert hydra.launcher.max_num_timeout > 0 and hydra.launcher.name == name.removeprefix("opv2v_")
    assert composed(name, "+cluster=opv2v_local").hydra.launcher._target_.endswith("LocalLauncher")


ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "docs/mapanything-opv2v/training.md", ROOT / "docs/mapanything-opv2v/guide.zh-CN.md")


def launches(pages):
    """Words after `-m mapanything_opv2v.train` or `mapanything-opv2v train` of every command in pages."""
    for page in pages:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:-m mapanything_opv2v\.train|mapanything-opv2v train) (.*)", line)
                if found:
                    yield pytest.param(shlex.split(found[1], comments=True), id=f"{page.name} {found[1][:60]}")


READMES = sorted(Path(__file__).parents[1].glob("README*.md"))


@pytest.mark.parametrize("words", list(launches([*READMES, *PAGES])))
def test_commands_of_the_pages_compose(composed, words):
    _, overrides = build_parser().parse_known_args(words)
    (name,) = [word.partition("=")[2] for word in overrides if word.startswith("+experiment=")]
    config = composed(name, *(word for word in overrides if not word.startswith("+experiment=")))
    assert config.experiment_name == name.removeprefix("opv2v_")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_both_languages_show_every_experiment(page):
    shown = [param.values[0] for param in launches([page])]
    for name in EXPERIMENTS:
        assert any(f"+experiment={name}" in words for words in shown), name
    assert any("+cluster=opv2v_slurm" in words for words in shown)


def test_the_output_is_the_folder_of_the_job(composed):
    (line,) = re.findall(r"^output_dir: .*", (FOLDER / "opv2v_shared.yaml").read_text(), re.M)
    assert line == "output_dir: ${hydra:runtime.output_dir}"  # hydra.run.dir differs between tasks of a job
