"""WatchService: the tasks of all services in one stream."""
