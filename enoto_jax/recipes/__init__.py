"""Methods: what a recipe is, the table of them, their constants per domain, budgets."""
