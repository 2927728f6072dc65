import pytest
from roborefer_spatial.host import locate
from roborefer_spatial.host.locate import find_host, put_on_path


def test_a_given_folder_goes_before_the_variable(checkout, monkeypatch):
    monkeypatch.setenv("ROBOREFER_ROOT", str(checkout.root))
    assert find_host().origin == "ROBOREFER_ROOT"
    assert find_host(checkout.root).origin == "given folder"
    assert find_host().root == checkout.root


def test_an_installed_llava_is_found(checkout, monkeypatch):
    monkeypatch.delenv("ROBOREFER_ROOT", raising=False)
    with pytest.raises(ValueError, match="ROBOREFER_ROOT is not set and no package llava is installed"):
        find_host()
    monkeypatch.syspath_prepend(str(checkout.root))
    assert find_host().origin == "Python path"
    assert find_host().root == checkout.root


def test_another_projects_llava_is_refused(checkout):
    checkout.file("llava/data/dataset.py").write_text("")
    with pytest.raises(ValueError, match="is another project's llava"):
        find_host(checkout.root)


def test_a_second_host_in_one_process_is_refused(checkout, clean_imports, tmp_path):
    put_on_path(checkout)
    import llava  # noqa: F401

    put_on_path(checkout)
    with pytest.raises(ValueError, match="llava is already imported from"):
        put_on_path(locate.Host(tmp_path, "test"))


def test_the_commit(checkout):
    assert checkout.commit() is None or len(checkout.commit()) == 40
