"""Studies: what is to be run, its identity, its price, its store, and the running of it."""
