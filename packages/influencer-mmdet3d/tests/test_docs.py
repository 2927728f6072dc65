"""README and docs pages against the code: options, scalars, reasons, commands, the recipe, and the Python shown."""

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from fake_host import S3DIS, write_host
from influencer_mmdet3d import cli
from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.options import CriterionOptions
from influencer_mmdet3d.host.pin import load_pin
from influencer_mmdet3d.host.recipe import install_steps
from influencer_mmdet3d.host.schedule import InfluencerScheduleHook
from influencer_mmdet3d.host.verify import REASONS, load_config
from scenes import make_batch

README = Path(__file__).parents[1] / "README.md"
PAGES = Path(__file__).parents[3] / "docs" / "influencer-mmdet3d"
TRAINING, OWN_DATA = PAGES / "training.md", PAGES / "own-data.md"
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in (README, *sorted(PAGES.glob("*.md"))))
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
SHELL = "\n".join(re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S))
COMMANDS = [shlex.split(line)[1:] for line in SHELL.splitlines() if line.startswith("influencer-mmdet3d ")]


def section(page: Path, title: str) -> str:
    return re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page.read_text(encoding="utf-8"), re.M | re.S).group(1)


def block(start: str) -> str:
    found = {text for text in PYTHON if start in text}
    assert len(found) == 1, "shown once, or the same everywhere"
    return found.pop()


def test_option_table_is_the_dataclass():
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|(required)) \|", section(TRAINING, "Options"), re.M)
    shown = {name: required or eval(default, {}) for name, default, required in rows}
    real = {
        field.name: "required" if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(CriterionOptions)
    }
    real["loss_weight"] = list(real["loss_weight"])
    assert shown == real
    assert list(shown) == list(real), "in the order of the class"


def test_scalar_table_is_what_the_criterion_logs():
    shown = set(re.findall(r"^\| `(inst_\w+)` \|", section(TRAINING, "What the log says"), re.M))
    pred, insts = make_batch()
    assert shown == set(InfluencerCriterion(num_classes=13)(pred, insts))


def test_reasons_exist_and_are_explained():
    page = PAGES / "troubleshooting.md"
    named = set(re.findall(r"\[([a-z0-9-]+)\](?!\()", section(page, "Errors and what to do")))
    explained = set(re.findall(r"^\| `([a-z0-9-]+)` \|", section(page, "Reasons of `verify`"), re.M))
    assert named <= set(REASONS) and explained == {*REASONS, "package-missing"}


def test_recipe_of_the_docs_is_what_doctor_prints():
    shell = TRAINING.read_text(encoding="utf-8")
    for cuda in (None, "12.6"):
        assert "\n".join(["```bash", *install_steps(cuda), "```"]) in shell


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_parse(words):
    assert callable(cli.build_parser().parse_args(words).run)


def test_commands_cover_every_subcommand():
    old = {alias: name for name, command in cli.COMMANDS.items() for alias in command.aliases}
    assert {old.get(words[0], words[0]) for words in COMMANDS} == set(cli.COMMANDS)


def test_pin_is_the_one_of_pyproject():
    assert load_pin().commit in SHELL and load_pin().repository in SHELL and load_pin().root_env in SHELL


@pytest.mark.parametrize("text", PYTHON, ids=lambda text: text.splitlines()[0][:40])
def test_python_compiles(text):
    compile(text, "docs", "exec")


@pytest.mark.parametrize("text", [text for text in PYTHON if "MaskInfluencerLoss()(logits" in text])
def test_losses_alone_run(text):
    exec(text, {})


def test_ramps_build():
    names: dict = {}
    exec(block("InfluencerScheduleHook"), names)
    (hook,) = [entry for entry in names["custom_hooks"] if entry.pop("type") == "InfluencerScheduleHook"]
    assert [ramp.option for ramp in InfluencerScheduleHook(**hook).ramps] == ["temperature", "bg_weight"]


@pytest.fixture
def host(tmp_path, monkeypatch):
    root = write_host(tmp_path / "host")
    more = "train_pipeline = [dict(type='A')]\ntest_pipeline = [dict(type='B')]\nval_evaluator = dict(metric_meta={})\n"
    (root / "configs" / "oneformer3d_1xb2_s3dis-area-5.py").write_text(S3DIS + more)
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(root))
    return root


def test_quickstart_config_loads(host, tmp_path):
    path = tmp_path / "quick.py"
    path.write_text(block("replaced, not merged"))
    inner = load_config(path).model.criterion.inst_criterion
    assert dict(inner) == {"type": "InfluencerCriterion", "num_classes": 13, "non_object_weight": 0.05}


def test_own_config_changes_every_count(host, tmp_path):
    path = tmp_path / "my_config.py"
    path.write_text(block("# my_config.py"))
    cfg = load_config(path)
    counts = (
        cfg.model.num_classes,
        cfg.model.decoder.num_instance_classes,
        cfg.model.decoder.num_semantic_queries,
        cfg.model.criterion.num_semantic_classes,
        cfg.model.criterion.inst_criterion.num_classes,
        cfg.model.test_cfg.num_sem_cls,
        len(cfg.val_evaluator.sem_mapping),
        len(cfg.val_evaluator.metric_meta.classes) - 1,
    )
    assert set(counts) == {4}
    assert cfg.train_dataloader.dataset.pipeline[0].type == "A" and cfg.train_dataloader.dataset.type == "MyDataset"
    assert cfg.test_dataloader.dataset.pipeline[0].type == "B" and cfg.test_dataloader.dataset.test_mode


def test_writer_makes_what_check_accepts(tmp_path, capsys):
    names: dict = {}
    exec(block("# write_data.py"), names)
    generator = np.random.default_rng(0)
    instance = np.repeat(np.arange(4), 50)
    points = np.concatenate([generator.random((200, 3)), generator.integers(0, 256, (200, 3))], axis=1)
    for split in ("train", "val"):
        names["write_split"](tmp_path, split, {f"{split}_{n}": (points, instance, instance) for n in range(2)})
    words = ["check", str(tmp_path), "--format", "s3dis", "--infos", "my_infos_train.pkl", "my_infos_val.pkl"]
    code = cli.main(words)
    assert code == 0, capsys.readouterr().out
