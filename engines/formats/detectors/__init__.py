"""Code shared by the formats of detection toolboxes: a configuration beside a checkpoint."""
