"""Networks, their ensembles and initialisers, and what makes them fast on a backend."""
