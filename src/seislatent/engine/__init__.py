"""Learning: recipes, steps, the loop, checkpoints and logs. Knows no family of systems by name."""
