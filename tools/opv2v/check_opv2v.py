"""Check an OPV2V tree: `mapanything-opv2v check` under the name that the research notes use."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.check))
