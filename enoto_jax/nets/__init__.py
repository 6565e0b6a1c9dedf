"""Networks, their ensembles and initialisers, and kernels that make them fast on a backend."""
