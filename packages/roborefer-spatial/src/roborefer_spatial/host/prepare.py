"""Make RoboRefer ready to be used in this process: on the path, imported, repaired."""

from __future__ import annotations

from roborefer_spatial.host.api import import_host
from roborefer_spatial.host.data.staging import install_curriculum
from roborefer_spatial.host.locate import Host, put_on_path
from roborefer_spatial.host.options import LaunchOptions
from roborefer_spatial.host.repairs.table import apply_repairs


def prepare(host: Host, options: LaunchOptions, *, training: bool = True) -> list[str]:
    """Put the host on the path, import it and make its repairs.

    Parameters
    ----------
    host : Host
        The checkout.
    options : LaunchOptions
        What to leave out, and what the repairs need to know.
    training : bool
        Whether the training code is imported and repaired too, or the model code only.

    Returns
    -------
    list of str
        Names of the repairs made.
    """
    put_on_path(host)
    made = apply_repairs(host, options, {"import"})
    import_host("llava.train.train" if training else "llava.model.builder")
    made += apply_repairs(host, options, {"model", "train"} if training else {"model"})
    if options.curriculum is not None:
        install_curriculum(options)
    return made
