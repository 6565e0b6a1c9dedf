"""The paper's figures (ENOTO, Zhao et al., IJCAI 2024): one script each, from data to picture."""
