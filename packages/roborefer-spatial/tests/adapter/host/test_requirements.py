from roborefer_spatial.host import requirements
from roborefer_spatial.host.requirements import missing_packages, needed_packages


def test_what_is_imported_on_the_way_is_found_with_its_file(checkout):
    needed = needed_packages(checkout) | needed_packages(checkout, "llava.model.builder")
    assert needed["hydra"] == "llava/data/builder.py"
    assert needed["s2wrapper"] == "llava/model/multimodal_encoder/vision_encoder.py"
    assert not {"json", "llava", "PIL"} & set(needed)  # of the library, of the host, and of a module not reached


def test_imports_that_may_not_run_do_not_count(checkout):
    path = checkout.file("llava/train/utils.py")
    lines = ["try:", "    import never_a", "except ImportError:", "    pass"]
    lines += ["if False:", "    import never_b", "import always_c"]
    path.write_text("\n".join(lines))
    needed = needed_packages(checkout)
    assert needed["always_c"] == "llava/train/utils.py"
    assert not {"never_a", "never_b"} & set(needed)


def test_missing_ones(checkout, monkeypatch):
    monkeypatch.setattr(requirements, "installed", lambda package: package != "hydra")
    assert missing_packages(checkout) == {"hydra": "llava/data/builder.py"}


def test_relative_imports_are_followed(checkout):
    checkout.file("llava/train/train_mem.py").write_text(
        "from ..model.builder import LlavaLlamaModel\nfrom . import args\n"
    )
    needed = needed_packages(checkout)
    assert needed["flash_attn"] == "llava/model/multimodal_encoder/intern/flash_attention.py"
