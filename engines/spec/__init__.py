"""What is asked for: requests and templates, their rules, tolerances, and the catalog of devices."""
