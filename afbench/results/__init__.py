"""Stage 5: the run, its identity, and the one record that every table is made from."""
