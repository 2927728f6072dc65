"""Compare two clouds or two runs: `mapanything-opv2v compare` under the name that the research notes use."""

from mapanything_opv2v.commands import notes

raise SystemExit(notes.main(notes.compare))
