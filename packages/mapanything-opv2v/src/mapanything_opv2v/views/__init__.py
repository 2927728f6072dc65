"""Pages and pictures to look at frames: self-contained HTML, PNG, recordings for rerun."""
