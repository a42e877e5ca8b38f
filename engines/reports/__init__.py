"""Reports for people: self-contained HTML pages with charts, for evaluations, comparisons and quantizations."""
