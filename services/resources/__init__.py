"""One store for every kind of resource: names, etags, lists, search, request ids."""
