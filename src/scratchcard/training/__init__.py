"""Training: the task, its data, the recipe, the one loop, and how a network is evaluated."""
