"""D4RL's own environments: AntMaze, and the physics of its locomotion data."""
